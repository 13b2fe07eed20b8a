"""Rewards: what an image is worth under its conditions."""
