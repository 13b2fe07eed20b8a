"""Label treatments: one file each, on the plug-point ``treatment``."""
