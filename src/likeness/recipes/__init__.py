"""Papers as settings of the primitives."""
