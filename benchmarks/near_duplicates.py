"""What it costs to find near-duplicates among many perceptual hashes, a fifth of them copies with a few bits changed.

python benchmarks/near_duplicates.py --pictures 100000
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from likeness.data.near_duplicates import near_duplicates


def hashes(count: int, seed: int = 0) -> list[str]:
    """Random hashes, every fifth that of an earlier one with up to three bits turned."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**63, count, dtype=np.uint64)
    for row in range(5, count, 5):
        values[row] = values[rng.integers(row)]
        for bit in rng.integers(0, 64, rng.integers(4)):
            values[row] ^= np.uint64(1) << np.uint64(bit)
    return [f"{value:016x}" for value in values.tolist()]


def main() -> None:
    """Print CPU-seconds and the number of groups for some distances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    known = hashes(parser.parse_args().pictures)
    for distance in (3, 4, 6, 8):
        before = time.process_time()
        groups = len(np.unique(near_duplicates(known, distance)))
        print(
            f"distance {distance}: {time.process_time() - before:.1f} CPU s, {groups} groups of {len(known)} pictures"
        )


if __name__ == "__main__":
    main()
