"""Reward model ``meta``: MetaRM, a head that can still tell pictures apart where no votes are (2401.06080, 3.3).

On unlabelled pairs X_s of a shifted distribution, J_theta(X_s) = mean sigma(|r_theta(a) - r_theta(b)|); look ahead,
theta' = theta + eta grad J_theta(X_s); then minimise the votes' loss at theta': theta <- theta - alpha grad_theta
L_theta'(X_t), through the step (``first_order``: as if d theta' / d theta were the identity).

The paper takes k answers of the policy of that moment for X_s; here they are the pairs that ``unlabelled`` names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from likeness.core.errors import InputError
from likeness.rewards.fit import FitConfig, pair_loss
from likeness.rewards.learnt import REWARD_MODELS, FitData, Fitted, RewardModel
from likeness.rewards.models.head import Head, HeadConfig, fit_head_by
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor, nn


class MetaConfig(HeadConfig):
    """``step``: eta. ``batch``: unlabelled pairs a step."""

    step: float = Field(default=0.1, ge=0)
    batch: int = Field(default=64, ge=1)
    first_order: bool = False


Raw = Callable[["Tensor", "Tensor"], "Tensor"]


def difference(raw: Raw, pairs: PairFeatures) -> Tensor:
    """J, (P,) in [1/2, 1): sigma(|r_a - r_b|)."""
    import torch

    a, b = raw(torch.cat([pairs.chosen, pairs.rejected]), torch.cat([pairs.text, pairs.text])).chunk(2)
    return (a - b).abs().sigmoid()


def ahead(head: Head, pairs: PairFeatures, step: float, first_order: bool = False) -> Raw:
    """``raw`` of the head at theta' = theta + ``step`` grad J, differentiable with respect to theta."""
    import torch
    from torch.func import functional_call

    def at(weights: dict[str, Tensor]) -> Raw:
        return lambda features, text: functional_call(head.net, weights, (head.inputs(features, text),)).squeeze(1)

    weights: dict[str, Tensor] = dict(head.net.named_parameters())
    ascent = torch.autograd.grad(
        difference(at(weights), pairs).mean(), list(weights.values()), create_graph=not first_order
    )
    return at({name: value + step * up for (name, value), up in zip(weights.items(), ascent, strict=True)})


def fit(config: MetaConfig, settings: FitConfig, data: FitData) -> Fitted:
    """A head; validation looks at the votes at theta itself.

    Raises:
        InputError: there are no unlabelled pairs.
    """
    shifted = data.unlabelled
    if config.step and not shifted:
        raise InputError(
            "the model 'meta' is shown no unlabelled pairs",
            remedy="name their kind, train_reward.unlabelled: {appeal: structure}, or set step: 0",
        )

    def objective(head: Head, bias: Tensor) -> tuple[Callable[[PairFeatures], Tensor], list[nn.Parameter]]:
        import torch

        def loss(pairs: PairFeatures) -> Tensor:
            if shifted is None or not config.step or not head.net.training:
                return pair_loss(head.raw, pairs, bias)
            some = shifted.take(torch.randint(len(shifted), (config.batch,)))
            return pair_loss(ahead(head, some, config.step, config.first_order), pairs, bias)

        return loss, []

    return fit_head_by(objective, config, settings, data)


REWARD_MODELS.add("meta", RewardModel(MetaConfig, fit, Head.from_state), __name__)
