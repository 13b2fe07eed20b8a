"""Candidates with what rewards make of them: the material of every source that labels by scores and not by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from likeness.core.errors import InputError
from likeness.data.shards import read_rows
from likeness.preferences.attributes import to_tensor
from likeness.preferences.pairs import Preference, fold_of
from likeness.preferences.sources import Material

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.rewards.compose import RewardAssets

_BATCH = 64
_NEEDS = {"text": ("encoder",), "identity": ("faces", "references")}
_LEARNT = ("encoder", "reward")


@dataclass(frozen=True)
class Scored:
    """N candidates: ``rows`` with image, prompt and group; ``readings``: reward -> (N,) float64."""

    rows: Sequence[Mapping[str, Any]]
    readings: Mapping[str, np.ndarray]

    def groups(self) -> dict[str, np.ndarray]:
        """Group -> the row numbers (K,) of its pictures, in order."""
        members: dict[str, list[int]] = {}
        for i, row in enumerate(self.rows):
            members.setdefault(str(row["group"]), []).append(i)
        return {group: np.array(rows) for group, rows in members.items()}

    def prefer(self, material: Material, winner: int, loser: int, kind: str, signed: str, **more: Any) -> Preference:
        """The row ``winner`` over the row ``loser``, signed by who says so; ``more``: other fields of it."""
        group = str(self.rows[winner]["group"])
        return Preference(
            prompt=self.rows[winner]["prompt"],
            chosen=self.rows[winner]["image"],
            rejected=self.rows[loser]["image"],
            kind=kind,
            fold=fold_of(material.seed, group, material.judge_share),
            group=f"prompt-{group}",
            annotator=signed,
            **more,
        )


def score(material: Material, names: Sequence[str], source: str, det_size: int = 640) -> Scored:
    """Every candidate by the rewards ``names``, each picture once.

    ``identity`` is the cosine with the nearest of the subjects that `references` shows.

    Raises:
        InputError: a port that a reward reads is not bound, or there are no candidates.
        UnknownNameError: there is no such reward.
    """
    from likeness.rewards.compose import REWARDS, RewardAssets

    for name in names:
        REWARDS.module(name)
        for port in _NEEDS.get(name, _LEARNT):
            material.need(port, source)
    rows = read_rows(material.candidates, ["image", "prompt", "group"])
    if not rows:
        raise InputError("there are no candidates to score", remedy="raise generate_candidates.prompts")
    nowhere = material.candidates
    assets = RewardAssets(
        material.reward or nowhere, material.encoder or nowhere, material.faces or nowhere, det_size, material.threads
    )
    subjects = _subjects(assets, material) if "identity" in names else None
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        pictures, prompts = to_tensor([row["image"] for row in part]), tuple(str(row["prompt"]) for row in part)
        for name in names:
            parts[name].append(_read(assets, name, pictures, prompts, subjects))
    # Rounded well above the last bits that another thread count would change.
    return Scored(rows, {name: np.round(np.concatenate(found), 6) for name, found in parts.items()})


def _read(
    assets: RewardAssets, name: str, pictures: Tensor, prompts: tuple[str, ...], subjects: Tensor | None
) -> np.ndarray:
    """(B,) float64."""
    import torch

    from likeness.rewards.base import Conditions
    from likeness.rewards.compose import REWARDS

    reward = REWARDS.get(name)(assets)
    with torch.no_grad():
        if not reward.needs_references or subjects is None:
            return np.asarray(reward(pictures, Conditions(prompts)).double().numpy())
        each = [reward(pictures, Conditions(prompts, one.expand(len(prompts), -1))) for one in subjects]
        return np.asarray(torch.stack(each).amax(dim=0).double().numpy())


def _subjects(assets: RewardAssets, material: Material) -> Tensor:
    """(S, D) mean L2-normalised embedding of each subject's references.

    Raises:
        InputError: no reference shows a face.
    """
    import torch
    import torch.nn.functional as F

    rows = read_rows(material.need("references", "identity"), ["image", "subject"])
    found: dict[str, list[Tensor]] = {}
    for row in rows:
        picture = to_tensor([row["image"]])
        keypoints, seen = assets.identity.find(picture)
        if bool(seen[0]):
            found.setdefault(str(row["subject"]), []).append(assets.identity.embedder.embed(picture, keypoints)[0])
    if not found:
        raise InputError("no reference picture shows a face", remedy="look at the references that split wrote")
    return torch.stack([F.normalize(torch.stack(each).mean(dim=0), dim=0) for each in found.values()])
