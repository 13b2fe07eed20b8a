"""Exponential moving average of the trained parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter


class Ema:
    """``shadow = decay * shadow + (1 - decay) * parameter`` after every optimiser step."""

    def __init__(self, parameters: Mapping[str, Parameter], decay: float) -> None:
        self.decay = decay
        self.shadow: dict[str, Tensor] = {name: p.detach().clone() for name, p in parameters.items()}

    def update(self, parameters: Mapping[str, Parameter]) -> None:
        """Move the average towards ``parameters``."""
        for name, parameter in parameters.items():
            self.shadow[name].lerp_(parameter.detach(), 1 - self.decay)

    def copy_to(self, parameters: Mapping[str, Parameter]) -> None:
        """Replace the parameters by their average."""
        copy_into(self.shadow, parameters)

    @contextmanager
    def applied(self, parameters: Mapping[str, Parameter]) -> Iterator[None]:
        """Inside, the parameters hold the average."""
        kept = {name: p.detach().clone() for name, p in parameters.items()}
        self.copy_to(parameters)
        try:
            yield
        finally:
            copy_into(kept, parameters)


def copy_into(source: Mapping[str, Tensor], parameters: Mapping[str, Parameter]) -> None:
    """Set each parameter to the value of its name."""
    for name, parameter in parameters.items():
        parameter.data.copy_(source[name])
