"""Reward-based noise optimisation, ReNO (2406.04312): the starting noise itself climbs the rewards' gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from likeness.core.config import Config
from likeness.search.base import SEARCHES, Found, Search, draw, keep_best, start_noise

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.policy import Policy, Prompts
    from likeness.rewards.base import Conditions
    from likeness.training.terms import Terms

MOMENTUM = 0.9  # of Nesterov's step, as in the authors' code


class RenoSettings(Config):
    """The values of the authors' code. ``iterations``: pictures looked at; ``steps``: of a one- or few-step generator;
    ``learning_rate`` and ``clip_norm`` of each prompt's noise; ``prior``: lambda of the norm's prior."""

    iterations: int = Field(50, gt=0)
    steps: int = Field(1, gt=0)
    learning_rate: float = Field(5.0, gt=0)
    clip_norm: float = Field(0.1, gt=0)
    prior: float = Field(0.01, ge=0)


def norm_prior(noise: Tensor) -> Tensor:
    """||z||^2 / 2 - (d - 1) log ||z||, (B,), of noise (B, ...) with d entries each.

    The negative log-density of the norm of d unit normals, up to a constant; least at ||z|| = sqrt(d - 1).
    """
    flat = noise.flatten(1)
    norm = flat.norm(dim=1)
    prior: Tensor = norm.square() / 2 - (flat.shape[1] - 1) * norm.log()
    return prior


def reno(
    policy: Policy, prompts: Prompts, conditions: Conditions, terms: Terms, settings: RenoSettings, seed: int
) -> Found:
    """Gradient ascent of the composed reward in the starting noise, kept near the noise that the generator knows.

    Minimises -R(z) + prior K(z) by SGD with Nesterov's momentum, each prompt's gradient clipped by itself; the picture
    with the best reward so far is kept, whatever comes later.

    Raises:
        ConfigError: there is no reward, or one gives no gradient.
    """
    terms.require_gradient()
    return keep_best(policy, _pictures(policy, prompts, conditions, terms, settings, seed))


def _pictures(
    policy: Policy, prompts: Prompts, conditions: Conditions, terms: Terms, settings: RenoSettings, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """A picture before each step, and one after the last."""
    import torch

    with torch.no_grad():
        conditioning = policy.encode(prompts, torch.arange(len(prompts)))
    noise = start_noise(policy, prompts, seed, 0).requires_grad_()
    optimizer = torch.optim.SGD([noise], lr=settings.learning_rate, momentum=MOMENTUM, nesterov=True)
    for iteration in range(settings.iterations):
        last = iteration == settings.iterations - 1
        with torch.set_grad_enabled(not last):
            images = draw(policy, noise, conditioning, settings.steps)
            scores = terms.total(terms.read(images, conditions))
        if not last:
            loss = settings.prior * norm_prior(noise) - scores
            (gradient,) = torch.autograd.grad(loss.sum(), noise)
            noise.grad = clipped(gradient, settings.clip_norm)
            optimizer.step()
        yield images.detach(), scores.detach()


def clipped(gradient: Tensor, largest: float) -> Tensor:
    """Each sample's gradient (B, ...), shortened where its norm is above ``largest``."""
    norm = gradient.flatten(1).norm(dim=1)
    factor = (largest / norm.clamp(min=1e-12)).clamp(max=1)
    shortened: Tensor = gradient * factor.view(-1, *[1] * (gradient.dim() - 1))
    return shortened


SEARCHES.add("reno", Search(RenoSettings, reno), __name__)
