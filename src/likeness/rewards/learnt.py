"""The plug-point ``reward_model``: what can be learnt from preference pairs, and called on pictures afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from likeness.core.config import Config
from likeness.core.registry import Registry
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.rewards.fit import FitConfig

C = TypeVar("C", bound=Config)


class Scorer(Protocol):
    """A fitted model: image features (B, F) and prompt embeddings (B, D) to calibrated rewards (B,), differentiable.

    sigma of the difference of two rewards is the frequency with which held-out votes prefer the first; the average
    training picture has reward 0.
    """

    @property
    def config(self) -> Config: ...

    def __call__(self, features: Tensor, text: Tensor) -> Tensor: ...

    def state(self) -> dict[str, Tensor]:
        """Every tensor that :attr:`RewardModel.load` needs, float32, by name."""
        ...


@dataclass(frozen=True)
class Fitted:
    """What fitting gave. ``record``: how it went, as plain numbers for the reward's card."""

    scorer: Scorer
    record: Mapping[str, float | int]


@dataclass(frozen=True)
class FitData:
    """``train`` to fit on, ``validation`` to stop and to calibrate on; ``heads``: what was fitted before, by kind.

    ``texts``: the encoder's own way from N texts to (N, D), for models that have words of their own.
    ``unlabelled``: pairs of another distribution whose votes nobody looks at.
    """

    train: PairFeatures
    validation: PairFeatures
    seed: int
    heads: Mapping[str, Scorer] = field(default_factory=dict)
    texts: Callable[[Iterable[str]], Tensor] | None = None
    unlabelled: PairFeatures | None = None


@dataclass(frozen=True)
class RewardModel(Generic[C]):
    """One way to learn a reward. ``load(config, state, dimension D)`` is the inverse of the scorer's ``state``.

    ``fuses``: it reads the heads of the other kinds, and is fitted after them.
    """

    config: type[C]
    fit: Callable[[C, FitConfig, FitData], Fitted]
    load: Callable[[C, Mapping[str, Tensor], int], Scorer]
    fuses: bool = False


REWARD_MODELS: Registry[RewardModel[Any]] = Registry("reward_model", builtin=("likeness.rewards.models.*",))


def margins(scorer: Callable[[Tensor, Tensor], Tensor], pairs: PairFeatures) -> Tensor:
    """(P,) calibrated r_w - r_l, without gradient."""
    import torch

    with torch.no_grad():
        return scorer(pairs.chosen, pairs.text) - scorer(pairs.rejected, pairs.text)
