"""The ways to make one reward of several, one module each."""
