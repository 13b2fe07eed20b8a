"""Preference sources beyond votes by simulated annotators: one file each, on the plug-point ``source``."""
