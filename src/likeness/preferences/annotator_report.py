"""How each annotator votes, whatever is better: position bias and agreement with themselves."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from likeness.preferences.ballots import Ballots
from likeness.rewards.pair_features import PairFeatures

_Z = 1.959964


def annotator_report(pairs: PairFeatures) -> list[dict[str, Any]]:
    """One entry an annotator, by name, of ``pairs`` of either fold.

    ``first``: share of the votes for the picture shown first, of ``shown`` whose order is known, with Wilson's 95 %
    interval; ``position_bias``: its log-odds, half a vote added to either side, the ``Annotator``'s own unit where
    pictures are alike. ``self_agreement``: share of the ``repeats`` (the same two pictures voted on again by the same
    person) that agree, None without any.
    """
    ballots = Ballots.of(pairs)
    order = pairs.order.numpy()[ballots.row]
    report = []
    for index, name in enumerate(ballots.people):
        mine = ballots.person == index
        shown = mine & (order != 0)
        first, count = int((order[shown] > 0).sum()), int(shown.sum())
        agree = _repeats(ballots.task[mine], ballots.first[mine])
        low, high = wilson(first, count)
        report.append(
            {
                "annotator": name,
                "votes": int(mine.sum()),
                "shown": count,
                "first": round(first / count, 6) if count else None,
                "first_low": round(low, 6),
                "first_high": round(high, 6),
                "position_bias": round(float(np.log((first + 0.5) / (count - first + 0.5))), 6),
                "repeats": len(agree),
                "self_agreement": round(float(np.mean(agree)), 6) if agree else None,
            }
        )
    return report


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share; (0, 1) where nothing was counted."""
    if not count:
        return 0.0, 1.0
    share, wide = hits / count, _Z**2 / count
    centre, half = share + wide / 2, _Z * np.sqrt(share * (1 - share) / count + wide / (4 * count))
    return float((centre - half) / (1 + wide)), float((centre + half) / (1 + wide))


def _repeats(task: np.ndarray, first: np.ndarray) -> list[bool]:
    """Whether each two votes on one task agree."""
    return [bool(a == b) for one in np.unique(task) for a, b in combinations(first[task == one].tolist(), 2)]
