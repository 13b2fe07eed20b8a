"""Inference-time procedures: better pictures from the same weights, by the same rewards."""
