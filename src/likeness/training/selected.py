"""Learning from the policy's own better pictures: RAFT (2304.06767) and reward-weighted regression.

At the start of a round each slot draws K pictures of a prompt; for the rest of it the denoising loss learns from the
best of them, or from one that is drawn, weighted by its reward. Their latents are the rollouts' own: no VAE encodes.
Shapes: n slots of this process, K pictures a slot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

from pydantic import Field, model_validator

from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.models.families import latent_shape
from likeness.training.algorithm import Memory, Slots, StepOutput, join, split
from likeness.training.plan import ALGORITHMS, AlgorithmSpec
from likeness.training.rollout import finish
from likeness.training.rounds import Round
from likeness.training.supervised import denoising_loss

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.diffusion.path import Chain
    from likeness.models.policy import Policy
    from likeness.training.bench import Bench, PromptPool
    from likeness.training.terms import Terms


class SelectionSettings(Config):
    """``steps``: of the rollout. ``images_per_prompt``: K. ``updates``: optimiser steps that learn from one round."""

    steps: int = Field(4, gt=0)
    images_per_prompt: int = Field(4, gt=0)
    updates: int = Field(4, gt=0)


class BestOfKSettings(SelectionSettings):
    """``keep``: how many of the K pictures of a prompt are learnt from (RAFT keeps the best)."""

    keep: int = Field(1, gt=0)

    @model_validator(mode="after")
    def _are_there(self) -> Self:
        if self.keep > self.images_per_prompt:
            raise ConfigError(
                f"keep {self.keep} of {self.images_per_prompt} pictures", remedy="keep at most images_per_prompt"
            )
        return self


class RewardWeightedSettings(SelectionSettings):
    """``temperature``: a picture's weight is exp(reward / temperature), over its prompt's mean."""

    temperature: float = Field(0.2, gt=0)


Pick: TypeAlias = "Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]"


@dataclass
class Selected:
    """Denoising loss on the latents of rollouts.

    ``pick``: rewards (n, K) and uniform draws (n,) -> which picture each slot learns from, (n,), and its weight, (n,).
    """

    name: str
    settings: SelectionSettings
    terms: Terms
    pool: PromptPool
    chain: Chain
    shape: tuple[int, int, int]
    pick: Pick
    round: Round

    @property
    def cycle(self) -> int:
        return self.round.length

    def prepare(self, policy: Policy, slots: Slots) -> None:
        if not self.round.is_over(slots):
            return
        self.terms.begin(slots.step)
        prompt = slots.integers(0, len(self.pool), f"{self.name}/prompt")
        drawn = [self._draw(policy, slots, prompt, k) for k in range(self.settings.images_per_prompt)]
        self.round.begin(slots, {"prompt": prompt, **self._joined(drawn)})

    def _draw(self, policy: Policy, slots: Slots, prompt: Tensor, number: int) -> tuple[Tensor, dict[str, Tensor]]:
        """One picture a slot, as latents (n, C, h, w), and what each reward (n,) reads from it."""
        import torch

        with torch.no_grad():
            conditioning = policy.encode(self.pool.prompts, prompt)
            x0 = finish(policy, slots.noise(self.shape, f"{self.name}/rollout/{number}"), conditioning, self.chain)
            readings = self.terms.read(policy.decode(x0), self.pool.conditions(prompt))
        self.terms.keep(readings)
        return x0, readings

    def _joined(self, drawn: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Tensor]:
        """Pictures and rewards side by side, (n, K, ...); what is shown as means."""
        import torch

        readings = {name: torch.stack([found[name] for _, found in drawn], 1) for name in self.terms.rewards}
        shown = {name: value.mean(1) for name, value in self.terms.metrics(readings).items()}
        return {"x0": torch.stack([x0 for x0, _ in drawn], 1), "reward": self.terms.total_of_draws(readings), **shown}

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        import torch

        rows = self.round.take(slots)
        chosen, weight = self.pick(rows["reward"], slots.uniform(f"{self.name}/pick"))
        x0 = rows["x0"][torch.arange(slots.count), chosen]
        conditioning = policy.encode(self.pool.prompts, rows["prompt"])
        loss = weight * denoising_loss(policy, x0, conditioning, slots, self.name)
        shown = {name: value for name, value in rows.items() if "/" in name}
        return StepOutput(loss, shown | {f"loss/{self.name}": loss.detach()})

    def memory(self) -> Memory:
        return join({"round": self.round.memory(), "terms": self.terms.memory()})

    def restore(self, memory: Memory) -> None:
        self.round.restore(split(memory, "round"))
        self.terms.restore(split(memory, "terms"))


def pick_best(keep: int) -> Pick:
    """One of the ``keep`` best, evenly; weight 1."""

    def pick(reward: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        best = reward.topk(keep, dim=1).indices
        rank = (uniform * keep).long()
        return best.gather(1, rank[:, None])[:, 0], uniform.new_ones(len(uniform))

    return pick


def pick_weighted(temperature: float) -> Pick:
    """Any of them, evenly; weight exp(r / temperature) over the mean of the prompt's own pictures.

    Reward-weighted regression (Peters and Schaal, 2007; DDPO, 2305.13301, section 4.2).
    """

    def pick(reward: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        weights = (reward / temperature).softmax(1) * reward.shape[1]
        chosen = (uniform * reward.shape[1]).long()
        return chosen, weights.gather(1, chosen[:, None])[:, 0]

    return pick


def _build(name: str, settings: SelectionSettings, bench: Bench, pick: Pick) -> Selected:
    bench.terms.require_some()
    chain, shape = bench.policy.path.chain(settings.steps), latent_shape(bench.policy.pipeline)
    return Selected(name, settings, bench.terms, bench.pool, chain, shape, pick, Round(settings.updates))


def _best_of_k(settings: BestOfKSettings, bench: Bench) -> Selected:
    return _build("best_of_k", settings, bench, pick_best(settings.keep))


def _reward_weighted(settings: RewardWeightedSettings, bench: Bench) -> Selected:
    return _build("reward_weighted", settings, bench, pick_weighted(settings.temperature))


ALGORITHMS.add("best_of_k", AlgorithmSpec(BestOfKSettings, _best_of_k), __name__)
ALGORITHMS.add("reward_weighted", AlgorithmSpec(RewardWeightedSettings, _reward_weighted), __name__)
