"""Reward models: one file each, on the plug-point ``reward_model``."""
