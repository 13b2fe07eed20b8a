"""Faces: insightface packs, their differentiable torch twin, and the builder of the photograph pack."""
