"""Algorithms that learn in rounds, from a toy reward that gives no gradient."""

from __future__ import annotations

from typing import Any

from likeness.models.families import latent_shape
from likeness.models.policy import Policy
from likeness.training.advantage import ADVANTAGES
from likeness.training.policy_gradient import PolicyGradient, PolicyGradientSettings
from likeness.training.reward_regression import RewardRegression, RewardRegressionSettings
from likeness.training.rounds import Round
from likeness.training.selected import BestOfKSettings, RewardWeightedSettings, Selected, pick_best, pick_weighted
from likeness.training.terms import Terms
from tiny_training import Redness, toy_pool

BLIND = Redness(differentiable=False)


def terms() -> Terms:
    return Terms({"red": (1.0, BLIND)})


def policy_gradient(policy: Policy, **settings: Any) -> PolicyGradient:
    chosen = PolicyGradientSettings.model_validate({"steps": 4, "clip": 0.02, "times_per_step": 3} | settings)
    return PolicyGradient(
        chosen,
        terms(),
        toy_pool(policy),
        policy.path.chain(chosen.steps),
        latent_shape(policy.pipeline),
        ADVANTAGES.get(chosen.advantage)(),
        Round(chosen.length),
    )


def regression(policy: Policy, **settings: Any) -> RewardRegression:
    chosen = RewardRegressionSettings.model_validate({"steps": 4, "updates": 3, "beta": 0.002} | settings)
    chain = policy.path.chain(chosen.steps)
    return RewardRegression(
        chosen, terms(), toy_pool(policy), chain, latent_shape(policy.pipeline), Round(chosen.updates)
    )


def selected(policy: Policy, name: str, **settings: Any) -> Selected:
    best = name == "best_of_k"
    given = {"steps": 4, "images_per_prompt": 4, "updates": 3, **({} if best else {"temperature": 0.001}), **settings}
    chosen = (BestOfKSettings if best else RewardWeightedSettings).model_validate(given)
    pick = pick_best(chosen.keep) if isinstance(chosen, BestOfKSettings) else pick_weighted(chosen.temperature)
    chain, shape = policy.path.chain(chosen.steps), latent_shape(policy.pipeline)
    return Selected(name, chosen, terms(), toy_pool(policy), chain, shape, pick, Round(chosen.updates))
