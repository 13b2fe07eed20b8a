"""Preferences: where pairs come from, how they are stored, and what is learnt from them."""
