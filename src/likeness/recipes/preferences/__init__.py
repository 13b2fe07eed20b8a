"""Papers about preferences and reward models as settings of the two steps."""
