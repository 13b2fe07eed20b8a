"""The best of several noises; also what gradient searches are measured against, at equal cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from likeness.core.config import Config
from likeness.search.base import SEARCHES, Found, Search, draw, keep_best, start_noise

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.policy import Policy, Prompts
    from likeness.rewards.base import Conditions
    from likeness.training.terms import Terms


class BestOfNSettings(Config):
    """``n``: noises tried for each prompt; ``steps``: of each picture."""

    n: int = Field(4, gt=0)
    steps: int = Field(4, gt=0)


class RandomSearchSettings(Config):
    """The control of a gradient search of ``iterations`` pictures of ``steps`` steps.

    ``equal``: what is equal. ``evaluations``: forwards of the network, so as many noises as the gradient search looks
    at pictures (ReNO's own control). ``compute``: forwards and backwards, each backward counted as one forward, so
    ``2 iterations - 1`` noises: nothing is backpropagated after the last picture.
    """

    iterations: int = Field(50, gt=0)
    steps: int = Field(1, gt=0)
    equal: Literal["evaluations", "compute"] = "evaluations"

    def noises(self) -> int:
        """How many noises are tried."""
        return {"evaluations": self.iterations, "compute": 2 * self.iterations - 1}[self.equal]


def best_of_n(
    policy: Policy, prompts: Prompts, conditions: Conditions, terms: Terms, settings: BestOfNSettings, seed: int
) -> Found:
    """Draw ``n`` pictures of each prompt and keep the one with the highest composed reward.

    Raises:
        ConfigError: there is no reward, or none that tells which of two draws is better.
    """
    terms.require_comparable()
    return keep_best(policy, _pictures(policy, prompts, conditions, terms, settings, seed))


def _pictures(
    policy: Policy, prompts: Prompts, conditions: Conditions, terms: Terms, settings: BestOfNSettings, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    import torch

    for number in range(settings.n):
        with torch.no_grad():  # within one turn of the loop: what a generator leaves on while it waits, others meet
            conditioning = policy.encode(prompts, torch.arange(len(prompts)))
            images = draw(policy, start_noise(policy, prompts, seed, number), conditioning, settings.steps)
            scores = terms.total(terms.read(images, conditions))
        yield images, scores


def random_search(
    policy: Policy, prompts: Prompts, conditions: Conditions, terms: Terms, settings: RandomSearchSettings, seed: int
) -> Found:
    """Fresh noises at the cost of a gradient search. Column ``iterations - 1`` of the trace is the result at equal
    evaluations, whichever ``equal`` is."""
    same = BestOfNSettings(n=settings.noises(), steps=settings.steps)
    return best_of_n(policy, prompts, conditions, terms, same, seed)


SEARCHES.add("best_of_n", Search(BestOfNSettings, best_of_n), __name__)
SEARCHES.add("random_search", Search(RandomSearchSettings, random_search), __name__)
