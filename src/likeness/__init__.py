"""Likeness: identity-preserving, preference-aligned image generation, from raw photographs to a gated model."""

__version__ = "0.1.0"
