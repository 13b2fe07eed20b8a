"""Forgetting a person: what derives from their pictures, found through the lineage, removed and proven."""
