"""The model card of a learnt reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CARD = """---
library_name: likeness
tags: [reward-model, bradley-terry, preference]
---
# Reward model ({fold} fold)

Bradley-Terry heads (ID-Aligner, arXiv 2404.15449, eq. 5) on a frozen dual encoder. A head maps an image in [0, 1]
and its prompt to a calibrated reward: sigma of the difference of two rewards is the frequency with which held-out
votes prefer the first; the average training picture has reward 0.

- `appeal`: which of two pictures of one prompt people prefer.
- `structure`: natural geometry against the same picture with a twisted face.

Trained on the fold `{fold}` alone: the other fold's annotators, prompts and persons were never seen.

## Held-out groups

| head | pairs | accuracy | 95 % interval | calibration error | Brier |
|---|--:|--:|---|--:|--:|
{rows}

## Limits

It judges pictures like the ones it was trained on. Optimised against for long, it will be deceived: evaluate with the
other fold's model, never with this one. Encoder: `{digest}`.
"""


def reward_card(fold: str, encoder_digest: str, heads: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown; ``heads``: name -> its reliability numbers."""
    rows = [
        f"| {name} | {r['pairs']} | {r['accuracy']:.3f} | {r['accuracy_low']:.3f} to {r['accuracy_high']:.3f} "
        f"| {r['calibration_error']:.3f} | {r['brier']:.3f} |"
        for name, r in heads.items()
    ]
    return _CARD.format(fold=fold, digest=encoder_digest[:16], rows="\n".join(rows))
