"""Heads on the frozen dual encoder: what an image is worth, from its features and, if asked, its prompt's.

Shapes: B samples, F image features, D joint embedding (the first D of the F).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likeness.core.config import Config

if TYPE_CHECKING:
    from torch import Tensor, nn


class HeadConfig(Config):
    """``text``: whether the head also sees the prompt (what appeals depends on what was asked; a bent nose is bent)."""

    hidden: int = 32
    text: bool = True


@dataclass
class Head:
    """r(x, c) = (net(z) - centre) / temperature, z the standardised features.

    ``temperature`` makes sigma(r_w - r_l) the frequency with which held-out votes prefer w; ``centre`` puts the
    average training picture at 0.
    """

    config: HeadConfig
    net: nn.Sequential
    mean: Tensor
    std: Tensor
    centre: float = 0.0
    temperature: float = 1.0

    def raw(self, features: Tensor, text: Tensor) -> Tensor:
        """(B, F) and (B, D) to uncalibrated scores (B,)."""
        import torch

        z = (features - self.mean) / self.std
        if self.config.text:
            width = text.shape[1]
            # Unit vectors have entries of size 1/sqrt(D): scaled so that every input has about unit variance.
            z = torch.cat([z, text * width**0.5, features[:, :width] * text * width], dim=1)
        score: Tensor = self.net(z).squeeze(1)
        return score

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        """(B, F) and (B, D) to calibrated rewards (B,), differentiable."""
        return (self.raw(features, text) - self.centre) / self.temperature

    def state(self) -> dict[str, Tensor]:
        """All tensors of the head, float32, by name."""
        import torch

        scale = torch.tensor([self.centre, self.temperature], dtype=torch.float32)
        net = {f"net.{name}": value.detach() for name, value in self.net.state_dict().items()}
        return {**net, "mean": self.mean, "std": self.std, "scale": scale}

    @classmethod
    def from_state(cls, config: HeadConfig, state: Mapping[str, Tensor], dimension: int) -> Head:
        """The frozen head whose :meth:`state` this is; ``dimension`` is D."""
        head = new_head(config, state["mean"], state["std"], dimension)
        head.net.load_state_dict({k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")})
        head.net.eval().requires_grad_(False)
        head.centre, head.temperature = (float(value) for value in state["scale"])
        return head


def new_head(config: HeadConfig, mean: Tensor, std: Tensor, dimension: int, dropout: float = 0.0) -> Head:
    """An untrained head; ``mean`` and ``std`` (F,) standardise the image features."""
    from torch import nn

    inputs = len(mean) + (2 * dimension if config.text else 0)
    net = nn.Sequential(
        nn.Dropout(dropout), nn.Linear(inputs, config.hidden), nn.GELU(), nn.Linear(config.hidden, 1, bias=False)
    )
    return Head(config, net, mean, std)
