"""Source ``follow_up``: the likelihood of a good follow-up is the reward, and its extremes are pairs (FLR, 2409.13948).

FLR scores an answer by how likely a model finds a positive next utterance after it. Here what follows a picture is an
action, and the model reads the frozen encoder's features: with p positive and n other follow-ups of each picture that
was acted on, w minimises

    sum_i -p_i log s(w·z_i) - n_i log(1 - s(w·z_i)) + (ridge / 2) |w|^2,    R(x, c) = log s(w·z),

z the standardised features, the prompt's embedding times the picture's, and 1. Every candidate gets a reward, those
without events too; the best and the worst of each prompt are a pair. Each fold learns from its own prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, field_validator

from likeness.core.config import Config
from likeness.data.shards import read_rows
from likeness.preferences.events import VIEW, Event, SimulationConfig, known_actions
from likeness.preferences.mining.social_events import events_of
from likeness.preferences.pairs import Preference, fold_of
from likeness.preferences.sources import SOURCES, Material, Mined, Source

if TYPE_CHECKING:
    from torch import Tensor


class FollowUpConfig(Config):
    """``positive``: the follow-ups that are good; every other action but a view is not.

    ``least_gap``: of log-likelihood between a pair's pictures.
    """

    kind: str = "follow_up"
    positive: tuple[str, ...] = ("remix", "save", "edit", "like", "share")
    ridge: float = Field(default=10.0, gt=0)
    least_gap: float = Field(default=0.1, ge=0)
    simulate: SimulationConfig | None = None

    @field_validator("positive")
    @classmethod
    def _known(cls, actions: tuple[str, ...]) -> tuple[str, ...]:
        return known_actions(actions)


def follow_up_likelihood(z: Tensor, positive: Tensor, other: Tensor, ridge: float) -> Tensor:
    """(N,) log s(w·z) from inputs (N, Z) and counts (N,), all float64; pictures without events are scored too."""
    import torch
    import torch.nn.functional as F

    w = torch.zeros(z.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([w], max_iter=200, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        score = z @ w
        loss = (positive * F.softplus(-score) + other * F.softplus(score)).sum() + ridge / 2 * w[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return F.logsigmoid(z @ w.detach())


def mine(config: FollowUpConfig, material: Material) -> Mined:
    """The best against the worst candidate of each prompt."""
    import torch

    from likeness.models.encoders import DualEncoder
    from likeness.preferences.features import embed

    rows = read_rows(material.candidates, ["image", "prompt", "group"])
    encoder = DualEncoder.load(material.need("encoder", "follow_up"))
    events, apart = events_of(config.simulate, rows, material, "follow_up")
    counts = _counts(config, events, len(rows))
    features, text = embed(encoder, [row["image"] for row in rows]), encoder.prompts(row["prompt"] for row in rows)
    z = torch.cat(
        [(features - features.mean(0)) / (features.std(0) + 1e-4), features[:, : text.shape[1]] * text], dim=1
    )
    z = torch.cat([z, torch.ones(len(z), 1)], dim=1).double()
    folds = [fold_of(material.seed, str(row["group"]), material.judge_share) for row in rows]
    reward = np.zeros(len(rows))
    for fold in sorted(set(folds)):
        own = np.flatnonzero([one == fold for one in folds])
        good, other = (torch.from_numpy(side[own]) for side in counts)
        reward[own] = follow_up_likelihood(z[own], good, other, config.ridge).numpy()
    return Mined(_pairs(config, material, rows, reward), quarantined=apart)


def _counts(config: FollowUpConfig, events: Sequence[Event], pictures: int) -> np.ndarray:
    """(2, N): positive and other follow-ups."""
    counts = np.zeros((2, pictures))
    for event in events:
        if event.action != VIEW:
            counts[0 if event.action in config.positive else 1, event.row] += 1
    return counts


def _pairs(
    config: FollowUpConfig, material: Material, rows: Sequence[Mapping[str, Any]], reward: np.ndarray
) -> list[Preference]:
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(str(row["group"]), []).append(i)
    found = []
    for group, members in groups.items():
        ordered = sorted(members, key=lambda i: (-reward[i], i))
        best, worst = ordered[0], ordered[-1]
        if best == worst or reward[best] - reward[worst] < config.least_gap:
            continue
        found.append(
            Preference(
                prompt=rows[best]["prompt"],
                chosen=rows[best]["image"],
                rejected=rows[worst]["image"],
                kind=config.kind,
                fold=fold_of(material.seed, group, material.judge_share),
                group=f"prompt-{group}",
                chosen_rating=round(float(reward[best]), 5),
                rejected_rating=round(float(reward[worst]), 5),
            )
        )
    return found


SOURCES.add("follow_up", Source(FollowUpConfig, mine), __name__)
