"""Generators, policies, adapters, face packs and captioners."""
