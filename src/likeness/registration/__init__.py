"""The registry of record: immutable versions, their decisions, and the one that is live."""
