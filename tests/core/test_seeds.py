"""Seeds: stable across versions, independent per use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from likeness.core.seeds import derive_seed

SEEDS = st.integers(min_value=0, max_value=2**31)


def test_a_seed_never_changes_between_versions() -> None:
    """First 8 bytes of SHA-256 of '0/a/1', halved; any other value would break every committed result."""
    assert derive_seed(0, "a", 1) == 3805457466603685491


@given(SEEDS, st.text(), st.text())
def test_uses_are_independent(seed: int, first: str, second: str) -> None:
    assert (derive_seed(seed, first) == derive_seed(seed, second)) == (first == second)


@given(SEEDS, st.text())
def test_a_seed_fits_numpy_and_torch(seed: int, name: str) -> None:
    assert 0 <= derive_seed(seed, name) < 2**63
