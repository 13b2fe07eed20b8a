"""Noise paths and samplers: pure tensors, no models."""
