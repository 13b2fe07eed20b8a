"""The embedded domain: cartoon portraits with known factors, and the small models trained on them."""
