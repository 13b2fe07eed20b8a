"""Preference pairs with all frozen work done once: each distinct picture and prompt is encoded one time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likeness.core.errors import InputError
from likeness.core.io import digest_bytes
from likeness.models.generator import encode_moments

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.policy import Policy, Prompts
    from likeness.preferences.pairs import Preference
    from likeness.training.bench import Row

_BATCH = 16  # pictures held as pixels at a time


@dataclass(frozen=True)
class PairSet:
    """P pairs of N distinct pictures. ``mean``, ``deviation``: VAE moments (N, C, h, w); ``rows``: (P, 2) int64, the
    chosen and the rejected picture of each pair; ``prompts``: distinct; ``prompt``: (P,) int64, each pair's.

    ``dropped``: pairs that compared a picture with itself.
    """

    mean: Tensor
    deviation: Tensor
    rows: Tensor
    prompts: Prompts
    prompt: Tensor
    dropped: int

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def encode(
        cls, policy: Policy, preferences: Sequence[Preference], pixels: Callable[[Sequence[Row]], Tensor]
    ) -> PairSet:
        """From ``preferences``, in order. ``pixels``: rows with ``image`` -> (N, 3, H, W) in [0, 1].

        Raises:
            InputError: every pair compares a picture with itself.
        """
        import torch

        digests = [[digest_bytes(one["bytes"]) for one in (p.chosen, p.rejected)] for p in preferences]
        kept = [(p, pair) for p, pair in zip(preferences, digests, strict=True) if pair[0] != pair[1]]
        if not kept:
            raise InputError(
                f"all {len(digests)} preference pairs compare a picture with itself",
                remedy="look at the candidates that generate_candidates wrote: each seed should give another picture",
            )
        pictures = {d: one for p, pair in kept for d, one in zip(pair, (p.chosen, p.rejected), strict=True)}
        row = {digest: i for i, digest in enumerate(pictures)}
        text = {text: i for i, text in enumerate(dict.fromkeys(p.prompt for p, _ in kept))}
        mean, deviation = _moments(policy, [{"image": one} for one in pictures.values()], pixels)
        return cls(
            mean,
            deviation,
            rows=torch.tensor([[row[digest] for digest in pair] for _, pair in kept]),
            prompts=policy.prompts(list(text)),
            prompt=torch.tensor([text[p.prompt] for p, _ in kept]),
            dropped=len(digests) - len(kept),
        )

    def draw(self, pair: Tensor, noise: Tensor) -> Tensor:
        """A posterior sample (2B, C, h, w) of each picture of the pairs (B,), the chosen first, from unit noise."""
        rows = self.rows[pair].T.flatten()
        return self.mean[rows] + self.deviation[rows] * noise


def _moments(policy: Policy, rows: Sequence[Row], pixels: Callable[[Sequence[Row]], Tensor]) -> tuple[Tensor, Tensor]:
    """VAE moments (N, C, h, w) of many pictures, few of them in memory as pixels."""
    import torch

    parts = [
        encode_moments(policy.pipeline, pixels(rows[start : start + _BATCH])) for start in range(0, len(rows), _BATCH)
    ]
    return torch.cat([mean for mean, _ in parts]), torch.cat([deviation for _, deviation in parts])
