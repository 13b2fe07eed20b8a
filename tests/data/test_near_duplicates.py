"""Perceptual hashes and their groups, against definitions written out and a search of each with each."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from likeness.data.near_duplicates import near_duplicates, perceptual_hash
from likeness.models.embedded.portraits import draw, persons
from rendered import pixels

HASH = st.integers(0, 2**64 - 1)
CHANGE = st.tuples(st.integers(0, 40), st.sets(st.integers(0, 63), max_size=9))


def bits(text: str) -> int:
    return int(text, 16)


def apart(a: str, b: str) -> int:
    return (bits(a) ^ bits(b)).bit_count()


def picture(seed: int, size: int = 256) -> np.ndarray:
    """Smooth, as photographs are."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC))


def test_the_hash_is_the_signs_of_low_frequencies_against_their_median() -> None:
    """By the sums of the DCT's definition."""
    shown = picture(0, 32)  # as small as it is looked at
    grey = np.asarray(Image.fromarray(shown).convert("L"), dtype=float)
    k = np.arange(32)
    waves = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / 64)
    low = (waves @ grey @ waves.T)[:8, :8]
    low[0] /= np.sqrt(2)
    low[:, 0] /= np.sqrt(2)
    wanted = (low > np.median(low.ravel()[1:])).ravel()
    wanted[0] = False
    assert perceptual_hash(shown) == np.packbits(wanted).tobytes().hex()


def test_copies_are_near_and_others_far() -> None:
    own = [perceptual_hash(picture(seed)) for seed in range(30)]
    for seed, known in enumerate(own):
        image = Image.fromarray(picture(seed))
        file = io.BytesIO()
        image.resize((90, 90)).save(file, "JPEG", quality=40)
        assert apart(known, perceptual_hash(np.asarray(Image.open(file).convert("RGB")))) <= 6
        assert apart(known, perceptual_hash((picture(seed) * 0.8).astype(np.uint8))) <= 4
    others = [apart(a, b) for i, a in enumerate(own) for b in own[:i]]
    assert min(others) > 12
    assert perceptual_hash(np.full((50, 70, 3), 9, np.uint8)) == perceptual_hash(np.full((64, 64, 3), 200, np.uint8))


def chained(hashes: list[str], distance: int) -> list[int]:
    """Each with each, by union and find."""
    first = list(range(len(hashes)))

    def find(i: int) -> int:
        while first[i] != i:
            i = first[i]
        return i

    for i in range(len(hashes)):
        for j in range(i):
            if apart(hashes[i], hashes[j]) <= distance:
                a, b = sorted((find(i), find(j)))
                first[b] = a
    return [find(i) for i in range(len(hashes))]


@given(st.lists(HASH, max_size=12), st.lists(CHANGE, max_size=12), st.integers(0, 15))
@settings(deadline=None, max_examples=60)
def test_groups_are_those_of_comparing_each_with_each(
    roots: list[int], changes: list[tuple[int, set[int]]], distance: int
) -> None:
    hashes = [f"{root:016x}" for root in roots]
    for place, flipped in changes:
        if hashes:
            hashes.append(f"{bits(hashes[place % len(hashes)]) ^ sum(1 << bit for bit in flipped):016x}")
    assert near_duplicates(hashes, distance).tolist() == chained(hashes, distance)


@pytest.mark.parametrize("distance", [0, 6])
def test_many_copies_of_one_picture_are_one_group(distance: int) -> None:
    hashes = [f"{0:016x}"] * 20_000 + [f"{2**64 - 1:016x}"]
    assert set(near_duplicates(hashes, distance)[:-1].tolist()) == {0}
    assert near_duplicates(hashes, distance)[-1] == 20_000


def test_portraits_of_one_person_are_no_duplicates_at_a_small_distance() -> None:
    hashes = [perceptual_hash(pixels(portrait)) for portrait in draw(40, 0, persons()[:40])]
    assert len(set(near_duplicates(hashes, 0).tolist())) > 30
