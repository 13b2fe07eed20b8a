"""How often a judge is fooled: false-positive rates under attack, on honest pairs that it never saw.

A false positive is an attack that scores above an honest picture of the same prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.seeds import derive_seed
from likeness.data.images import decode, encode_png
from likeness.preferences.attacks import ATTACKS, BUILTIN_ATTACKS, AttackNames, punctuate
from likeness.preferences.features import embed
from likeness.preferences.pairs import Preference
from likeness.preferences.reliability import group_interval
from likeness.preferences.sources import is_honest

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.encoders import DualEncoder
    from likeness.rewards.learnt import Scorer
    from likeness.rewards.pair_features import PairFeatures


class ProbesConfig(Config):
    """``pairs``: held-out pairs of a head that ``attacks`` are made from, at most; 0: none."""

    attacks: AttackNames = BUILTIN_ATTACKS
    pairs: int = Field(default=64, ge=0)


Judge = Callable[[Sequence[np.ndarray], Sequence[str]], np.ndarray]  # N pictures and prompts -> (N,) rewards
Rates = dict[str, dict[str, Any]]  # attack -> its rate and how far to trust it
_BATCH = 64


def judge_of(encoder: DualEncoder, scorer: Scorer) -> Judge:
    """``scorer`` on pictures (H, W, 3) uint8, without gradient."""
    import torch

    def scores(pictures: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        found = []
        for start in range(0, len(pictures), _BATCH):
            part = slice(start, start + _BATCH)
            with torch.no_grad():
                features = encoder.features(_stacked(encoder, pictures[part]))
                found.append(scorer(features, encoder.texts(prompts[part])).double().numpy())
        return np.concatenate(found)

    return scores


def false_positives(
    judge: Judge, pairs: Sequence[Preference], seed: int, attacks: Sequence[str] | None = None
) -> Rates:
    """Attack -> {``rate`` of false positives, its 95 % interval ``low``, ``high`` over groups, ``probes``}.

    Each pair gives one probe of every attack, made from its chosen picture, with another pair's as the reference. It
    competes with the rejected picture, the worse honest one. ``prompt_punctuation`` is the attacker's mark in the
    prompt: false where it lifts the rejected picture above the chosen one, of the pairs that the judge had right.
    """
    rejected = [decode(pair.rejected) for pair in pairs]
    prompts = [pair.prompt for pair in pairs]

    def marked(rows: np.ndarray, asked: Sequence[str]) -> np.ndarray:
        return judge([rejected[i] for i in rows], asked)

    chosen = [decode(pair.chosen) for pair in pairs]
    known = _Known(judge(chosen, prompts), judge(rejected, prompts), judge, marked)
    return _false_positives(known, pairs, seed, attacks)


def head_false_positives(
    encoder: DualEncoder,
    scorer: Scorer,
    pairs: Sequence[Preference],
    features: PairFeatures,
    seed: int,
    attacks: Sequence[str] | None = None,
) -> Rates:
    """:func:`false_positives` of a scorer on the ``features`` of ``pairs``: only what attacks make is encoded."""
    import torch

    def scores(seen: Tensor, prompts: Sequence[str]) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(scorer(seen, encoder.prompts(prompts)).double().numpy())

    def judge(pictures: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        return scores(embed(encoder, [encode_png(picture) for picture in pictures]), prompts)

    def marked(rows: np.ndarray, asked: Sequence[str]) -> np.ndarray:
        return scores(features.rejected[torch.from_numpy(rows)], asked)

    prompts = [pair.prompt for pair in pairs]
    known = _Known(scores(features.chosen, prompts), scores(features.rejected, prompts), judge, marked)
    return _false_positives(known, pairs, seed, attacks)


def under_attack(
    config: ProbesConfig,
    encoder: DualEncoder,
    scorer: Scorer,
    pairs: Sequence[Preference],
    features: PairFeatures,
    seed: int,
) -> Rates:
    """How often attacks fool it, on some of the held-out ``pairs``, of which ``features`` are; {} where none is honest.

    An attack has to beat a picture that somebody may want: pairs that an attack lost already are no measure.
    """
    honest = np.flatnonzero([is_honest(pair) for pair in pairs])
    rows = honest[spread([pairs[i].group for i in honest.tolist()], config.pairs, seed)]
    if not len(rows):
        return {}
    some = [pairs[i] for i in rows.tolist()]
    return head_false_positives(encoder, scorer, some, features.take(rows), seed, config.attacks)


@dataclass(frozen=True)
class _Known:
    """``better``, ``worse``: (P,) rewards of the honest pictures; ``marked``: of rejected ones under other prompts."""

    better: np.ndarray
    worse: np.ndarray
    judge: Judge
    marked: Callable[[np.ndarray, Sequence[str]], np.ndarray]


def _false_positives(
    known: _Known, pairs: Sequence[Preference], seed: int, attacks: Sequence[str] | None = None
) -> Rates:
    chosen = [decode(pair.chosen) for pair in pairs]
    prompts, groups = [pair.prompt for pair in pairs], [pair.group for pair in pairs]
    found = {}
    for name in attacks if attacks is not None else list(ATTACKS):
        attacked = []
        for i, honest in enumerate(chosen):
            rng = np.random.default_rng(derive_seed(seed, "probe", name, i))
            reference = chosen[(i + 1 + int(rng.integers(max(1, len(chosen) - 1)))) % len(chosen)]
            attacked.append(ATTACKS.get(name)(honest, reference, prompts[i], rng))
        found[name] = _rate(known.judge(attacked, prompts) > known.worse, groups, seed)
    right = np.flatnonzero(known.better > known.worse)
    if len(right):
        rng = np.random.default_rng(derive_seed(seed, "probe", "prompt_punctuation"))
        marked = known.marked(right, [punctuate(prompts[i], rng) for i in right])
        found["prompt_punctuation"] = _rate(marked > known.better[right], [groups[i] for i in right], seed)
    return found


def spread(groups: Sequence[str], most: int, seed: int) -> np.ndarray:
    """Rows of at most ``most`` pairs, in order: of every group one before any has two, drawn by ``seed``."""
    order = np.random.default_rng(derive_seed(seed, "spread")).permutation(len(groups))
    seen: Counter[str] = Counter()
    turn = np.empty(len(groups), dtype=int)
    for row in order:
        turn[row] = seen[groups[row]]
        seen[groups[row]] += 1
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])


def adversarial(
    encoder: DualEncoder,
    scorer: Scorer,
    pairs: Sequence[Preference],
    seed: int,
    budget: float = 4 / 255,
    steps: int = 8,
) -> dict[str, Any]:
    """The rate at which a rejected picture plus noise of at most ``budget`` (of 1) beats the chosen one.

    Projected gradient ascent on the reward (Madry et al., 1706.06083), steps of a quarter of the budget: the attacker
    knows the judge. Of the pairs that the judge had right.
    """
    import torch

    low, high = (_stacked(encoder, [decode(image) for image in side]) for side in reversed(_sides(pairs)))
    text = encoder.texts([pair.prompt for pair in pairs])
    fooled, right = [], []
    for start in range(0, len(pairs), _BATCH):
        part = slice(start, start + _BATCH)
        with torch.no_grad():
            goal = scorer(encoder.features(high[part]), text[part])
            right.append(goal > scorer(encoder.features(low[part]), text[part]))
        picture = low[part]
        for _ in range(steps):
            asked = picture.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(scorer(encoder.features(asked), text[part]).sum(), asked)
            moved = asked.detach() + budget / 4 * gradient.sign()
            picture = moved.clamp(low[part] - budget, low[part] + budget).clamp(0, 1)
        with torch.no_grad():
            fooled.append(scorer(encoder.features(picture), text[part]) > goal)
    keep = torch.cat(right).numpy()
    groups = [pair.group for pair, kept in zip(pairs, keep, strict=True) if kept]
    return _rate(torch.cat(fooled).numpy()[keep], groups, seed) if groups else {"probes": 0}


def _sides(pairs: Sequence[Preference]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    return [pair.chosen for pair in pairs], [pair.rejected for pair in pairs]


def _rate(fooled: np.ndarray, groups: Sequence[str], seed: int) -> dict[str, Any]:
    values = fooled.astype(np.float64)
    low, high = group_interval(values, groups, seed)
    if values.min() == values.max():
        # Resampling cannot move what never varied: Clopper and Pearson's bound, of as many trials as there are groups.
        bound = 0.025 ** (1 / len(set(groups)))
        low, high = (0.0, round(1 - bound, 6)) if values.max() == 0 else (round(bound, 6), 1.0)
    return {"rate": round(float(values.mean()), 6), "low": low, "high": high, "probes": len(values)}


def _stacked(encoder: DualEncoder, pictures: Sequence[np.ndarray]) -> Tensor:
    """(N, 3, S, S) float32 in [0, 1], at the encoder's size."""
    import torch

    ready = [torch.from_numpy(np.array(p)).permute(2, 0, 1)[None].float() / 255 for p in pictures]
    return torch.cat([encoder.fit_size(one) for one in ready])
