"""Preference pairs as the frozen encoder sees them: what every reward model is fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PairFeatures:
    """P pairs. ``chosen``, ``rejected``: (P, F) float32 image features; ``text``: (P, D) float32.

    ``order``: (P,) +1 where the chosen picture was shown first, -1 second, 0 where nobody was shown anything.
    ``weight``: (P,) how much a pair counts, 1 on average. ``margin``: (P,) by how much the chosen picture should win.
    ``smoothing``: (P,) in [0, 0.5], probability that the vote is turned round; 0.5 is a tie. ``ratings``: (P, 2) what
    the chosen and the rejected picture were rated, NaN where they were not. ``strength``: (P,) in (0, 1], share or
    probability with which the vote is held, NaN where nothing says so. ``annotator``: (P,) int64 index into
    ``people``, -1 where nobody voted. ``groups``: P names; pairs of one group never sit on both sides of a split.
    """

    chosen: Tensor
    rejected: Tensor
    text: Tensor
    order: Tensor
    groups: tuple[str, ...]
    weight: Tensor
    margin: Tensor
    smoothing: Tensor
    ratings: Tensor
    strength: Tensor
    annotator: Tensor
    people: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        chosen: Tensor,
        rejected: Tensor,
        text: Tensor,
        order: Tensor,
        groups: Sequence[str],
        annotators: Sequence[str | None] | None = None,
        ties: Sequence[bool] | None = None,
        ratings: Tensor | None = None,
    ) -> PairFeatures:
        """Pairs that all count alike, of ``annotators`` (P names or None), ``ties`` half either way."""
        import torch

        count = len(groups)
        names = annotators or [None] * count
        people = tuple(sorted({name for name in names if name is not None}))
        place = {name: i for i, name in enumerate(people)}
        return cls(
            chosen=chosen,
            rejected=rejected,
            text=text,
            order=order,
            groups=tuple(groups),
            weight=torch.ones(count),
            margin=torch.zeros(count),
            smoothing=torch.tensor([0.5 * tie for tie in ties or [False] * count]),
            ratings=torch.full((count, 2), torch.nan) if ratings is None else ratings,
            strength=torch.full((count,), torch.nan),
            annotator=torch.tensor([-1 if name is None else place[name] for name in names], dtype=torch.int64),
            people=people,
        )

    def __len__(self) -> int:
        return len(self.groups)

    @classmethod
    def joined(cls, parts: Sequence[PairFeatures]) -> PairFeatures:
        """All pairs of ``parts`` in order; people of one name are one.

        Raises:
            ValueError: there is no part.
        """
        import torch

        if not parts:
            raise ValueError("nothing to join")
        people = tuple(sorted({name for part in parts for name in part.people}))
        place = {name: i for i, name in enumerate(people)}
        names = [f.name for f in fields(cls) if isinstance(getattr(parts[0], f.name), torch.Tensor)]
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        known = [torch.tensor([place[name] for name in part.people] + [-1]) for part in parts]
        tensors["annotator"] = torch.cat([own[part.annotator] for own, part in zip(known, parts, strict=True)])
        return cls(**tensors, groups=tuple(group for part in parts for group in part.groups), people=people)

    def take(self, index: np.ndarray | Tensor) -> PairFeatures:
        """The pairs at ``index`` (P',) int, in that order, as often as named."""
        import torch

        rows = torch.as_tensor(np.asarray(index), dtype=torch.int64)
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        # index_select: the same rows as part[rows], without its three times as long way to them.
        taken = {name: part.index_select(0, rows) for name, part in parts.items() if isinstance(part, torch.Tensor)}
        return PairFeatures(**{**parts, **taken, "groups": tuple(self.groups[i] for i in rows.tolist())})

    def turned(self, rows: Tensor) -> PairFeatures:
        """The same pairs with chosen and rejected exchanged where ``rows`` (P,) bool says so."""
        import torch

        side = rows[:, None]
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        parts["chosen"] = torch.where(side, self.rejected, self.chosen)
        parts["rejected"] = torch.where(side, self.chosen, self.rejected)
        parts["order"] = torch.where(rows, -self.order, self.order)
        parts["margin"] = torch.where(rows, -self.margin, self.margin)
        parts["ratings"] = torch.where(side, self.ratings.flip(1), self.ratings)
        return PairFeatures(**parts)

    def smoothed(self, turned: Tensor) -> PairFeatures:
        """The same pairs, each vote turned round with probability ``turned`` (P,) more; a tie stays one."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        parts["smoothing"] = self.smoothing + turned - 2 * self.smoothing * turned
        return PairFeatures(**parts)
