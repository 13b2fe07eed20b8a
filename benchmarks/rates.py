"""How sure a share of so many trials is."""

from __future__ import annotations


def wilson(count: int, trials: int) -> dict[str, float]:
    """Ends of the 95 % interval (Wilson's)."""
    from scipy.stats import binomtest

    found = binomtest(count, trials).proportion_ci(method="wilson")
    return {"low": float(found.low), "high": float(found.high)}
