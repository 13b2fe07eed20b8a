"""Reward model ``guarded``: a head, and a second one that must find the picture honest before the first may praise it.

r(x, c) = head(x, c) - penalty · relu(limit - guard(x, c)). One Token to Fool (2507.08794) puts master keys among the
judge's own negatives; on a small head they crowd out the votes. Here they train a head of their own (the kind
``guard``, from the source ``attack_negatives``), and an honest picture's reward stays what it was. Shapes: B samples,
F image features, D joint embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from likeness.core.errors import ConfigError, did_you_mean
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel, Scorer
from likeness.rewards.models.head import Head, HeadConfig, fit_head

if TYPE_CHECKING:
    from torch import Tensor


class GuardedConfig(HeadConfig):
    """``guard``: the kind whose head guards, a plain ``head``; ``guard_head``: its settings, filled in by the fit.

    ``quantile``: share of the honest training pictures that may be suspected. ``penalty``: reward lost for each unit
    that the guard's reward lies below the limit.
    """

    guard: str = "honesty"
    guard_head: HeadConfig = HeadConfig()
    quantile: float = Field(default=0.03, ge=0, lt=1)
    penalty: float = Field(default=10.0, gt=0)


@dataclass
class GuardedHead:
    """``limit``: the guard's reward below which a picture is suspected."""

    config: GuardedConfig
    head: Head
    guard: Head
    limit: float

    def __call__(self, features: Tensor, text: Tensor) -> Tensor:
        """(B, F) and (B, D) to rewards (B,), differentiable."""
        suspicion = (self.limit - self.guard(features, text)).relu()
        return self.head(features, text) - self.config.penalty * suspicion

    def state(self) -> dict[str, Tensor]:
        """Both heads and the limit, float32."""
        import torch

        parts = {"head": self.head, "guard": self.guard}
        state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state().items()}
        return {**state, "limit": torch.tensor([self.limit], dtype=torch.float32)}


def fit_guarded(config: GuardedConfig, fit: FitConfig, data: FitData) -> Fitted:
    """The head on the votes alone; the limit from the pictures that were voted on.

    Raises:
        ConfigError: the guard's kind was not fitted, or is not a plain head.
    """
    import torch

    guard: Scorer | None = data.heads.get(config.guard)
    if not isinstance(guard, Head):
        raise ConfigError(
            f"no head of the kind '{config.guard}' to guard with",
            remedy=f"models.{config.guard}: {{head: {{}}}}; {did_you_mean(config.guard, data.heads)}",
        )
    fitted = fit_head(config, fit, data)
    with torch.no_grad():
        sides = (data.train.chosen, data.train.rejected)
        limit = float(torch.cat([guard(side, data.train.text) for side in sides]).quantile(config.quantile))
    assert isinstance(fitted.scorer, Head)
    chosen = config.model_copy(update={"guard_head": guard.config})
    return Fitted(GuardedHead(chosen, fitted.scorer, guard, limit), {**fitted.record, "limit": round(limit, 6)})


def load_guarded(config: GuardedConfig, state: Mapping[str, Tensor], dimension: int) -> GuardedHead:
    """The inverse of :meth:`GuardedHead.state`."""
    parts = {
        name: {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
        for name in ("head", "guard")
    }
    return GuardedHead(
        config,
        Head.from_state(config, parts["head"], dimension),
        Head.from_state(config.guard_head, parts["guard"], dimension),
        float(state["limit"]),
    )


REWARD_MODELS.add("guarded", RewardModel(GuardedConfig, fit_guarded, load_guarded, fuses=True), __name__)
