"""What a search is: it looks for the starting noise of a picture whose composed reward is highest, at a counted cost.

Pictures are drawn by the pipeline's own deterministic chain without guidance, as rollouts are. Shapes: B prompts, one
picture kept for each; N pictures looked at for each; C h w latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from likeness.core.config import Config
from likeness.core.registry import Registry
from likeness.models.families import latent_shape
from likeness.models.policy import Counts
from likeness.training.algorithm import Slots
from likeness.training.rollout import move

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.families import Conditioning
    from likeness.models.policy import Policy, Prompts
    from likeness.rewards.base import Conditions
    from likeness.training.terms import Terms

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Found:
    """``images``: (B, 3, H, W) in [0, 1], the best seen, and ``first``, the first that were drawn, which are the plain
    samples; ``scores``: (B,) composed rewards of the best; ``trace``: (B, N) the best score after each picture that was
    looked at; ``counts``: the work, in samples.

    A backward pass through the network with respect to latents alone is about one forward (no gradient of a weight is
    formed), so forwards + backwards compares compute, and forwards alone compares network evaluations (NFE).
    """

    images: Tensor
    first: Tensor
    scores: Tensor
    trace: Tensor
    counts: Counts


@dataclass(frozen=True)
class Search(Generic[C]):
    """One way to search, by name.

    ``run``: (policy, prompts, conditions, terms, settings, seed) -> Found; ``prompts`` are B, and ``conditions`` what
    the rewards are told of each. Equal seeds give equal bytes, and each prompt's result does not depend on the others.
    """

    config: type[C]
    run: Callable[[Policy, Prompts, Conditions, Terms, C, int], Found]


SEARCHES: Registry[Search[Any]] = Registry("search", builtin=("likeness.search.best_of_n", "likeness.search.reno"))


def start_noise(policy: Policy, prompts: Prompts, seed: int, number: int) -> Tensor:
    """The ``number``-th starting noise of every prompt, (B, C, h, w): the same for every way to search."""
    return Slots(seed, number, 0, len(prompts)).noise(latent_shape(policy.pipeline), "search/noise")


def draw(policy: Policy, noise: Tensor, conditioning: Conditioning, steps: int) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] that ``noise`` leads to; differentiable in it."""
    latents = noise
    for step in policy.path.chain(steps):
        latents = move(policy, latents, step, conditioning)
    return policy.decode(latents)


def keep_best(policy: Policy, pictures: Iterator[tuple[Tensor, Tensor]]) -> Found:
    """The best of ``pictures``, each of them images (B, 3, H, W) and scores (B,); of equals the earliest stays."""
    import torch

    before = asdict(policy.counts)
    first, scores = next(pictures)
    images = first
    trace = [scores]
    for others, theirs in pictures:
        better = (theirs > scores) | scores.isnan()
        images = others.where(better.view(-1, 1, 1, 1), images)
        scores = theirs.where(better, scores)
        trace.append(scores)
    spent = {name: value - before[name] for name, value in asdict(policy.counts).items()}
    return Found(images, first, scores, torch.stack(trace, 1), Counts(**spent))
