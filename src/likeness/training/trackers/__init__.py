"""The experiment trackers, one module each."""
