"""Regression on reward differences: PRDP (2402.08714) and REBEL (2404.16767).

Two trajectories a and b of one prompt: the difference of their log density ratios is made to be the difference of their
rewards, which holds exactly for the policy that maximises the reward with a penalty on leaving the base.
Shapes: n slots of this process, each a pair of trajectories; S steps, of which S - 1 draw noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from likeness.core.config import Config
from likeness.models.families import latent_shape
from likeness.objectives.regression import reward_difference
from likeness.training.algorithm import Memory, Slots, StepOutput, join, split
from likeness.training.plan import ALGORITHMS, AlgorithmSpec
from likeness.training.rollout import log_probs_of, sample_trajectories
from likeness.training.rounds import Round

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.diffusion.path import Chain
    from likeness.models.policy import Policy
    from likeness.training.bench import Bench, PromptPool
    from likeness.training.terms import Terms

_SIDES = ("a", "b")


class RewardRegressionSettings(Config):
    """``steps`` and ``eta``: of the stochastic chain. ``updates``: optimiser steps that learn from one round of pairs.

    ``against``: whose density the policy's is compared with: the base model's (PRDP) or that of the policy that drew
    the pair (REBEL). ``beta``: reward difference that one unit of log-ratio stands for, with log densities per latent
    entry, summed over the steps; in the paper's terms it is beta times the number of entries.

    ``clip``: how far a trajectory's log-ratio may move from the snapshot's before its gradient ends (PRDP's proximal
    updates); 0 for not at all.
    """

    steps: int = Field(8, gt=1)
    eta: float = Field(1.0, gt=0)
    updates: int = Field(4, gt=0)
    against: Literal["reference", "snapshot"] = "reference"
    beta: float = Field(1.0, gt=0)
    clip: float = Field(0.0, ge=0)


@dataclass
class RewardRegression:
    """The squared gap on pairs of trajectories of ``pool``'s prompts, whose pictures the terms score."""

    settings: RewardRegressionSettings
    terms: Terms
    pool: PromptPool
    chain: Chain
    shape: tuple[int, int, int]
    round: Round

    @classmethod
    def build(cls, settings: RewardRegressionSettings, bench: Bench) -> RewardRegression:
        """The algorithm on the bench's pipeline.

        Raises:
            ConfigError: there is no reward.
        """
        bench.terms.require_some()
        chain, shape = bench.policy.path.chain(settings.steps), latent_shape(bench.policy.pipeline)
        return cls(settings, bench.terms, bench.pool, chain, shape, Round(settings.updates))

    @property
    def cycle(self) -> int:
        return self.round.length

    def prepare(self, policy: Policy, slots: Slots) -> None:
        if not self.round.is_over(slots):
            return
        import torch

        self.terms.begin(slots.step)
        prompt = slots.integers(0, len(self.pool), "regression/prompt")
        drawn = [self._collect(policy, slots, prompt, side) for side in _SIDES]
        rows = {
            f"{side}.{name}": value for side, (own, _) in zip(_SIDES, drawn, strict=True) for name, value in own.items()
        }
        readings = {name: torch.stack([found[name] for _, found in drawn], 1) for name in self.terms.rewards}
        reward = self.terms.total_of_draws(readings)
        shown = self.terms.metrics(drawn[0][1])
        self.round.begin(slots, {"prompt": prompt, "difference": reward[:, 0] - reward[:, 1], **rows, **shown})

    def _collect(
        self, policy: Policy, slots: Slots, prompt: Tensor, side: str
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One trajectory a slot with its log densities (n, T) under the base it is compared with, and its readings."""
        import torch

        settings = self.settings
        noises = [slots.noise(self.shape, f"regression/noise/{side}/{i}") for i in range(len(self.chain))]
        with torch.no_grad():
            conditioning = policy.encode(self.pool.prompts, prompt)
            drawn = sample_trajectories(policy, noises, conditioning, self.chain, settings.eta)
            readings = self.terms.read(policy.decode(drawn.x0), self.pool.conditions(prompt))
            self.terms.keep(readings)
            snapshot = base = drawn.log_probs
            if settings.against == "reference":
                with policy.reference():
                    known = policy.encode(self.pool.prompts, prompt)
                    base = log_probs_of(policy, drawn.latents, known, self.chain, settings.eta)
        return {"latents": drawn.latents, "base": base, "snapshot": snapshot - base}, readings

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        rows = self.round.take(slots)
        conditioning = policy.encode(self.pool.prompts, rows["prompt"])
        ratios = [
            log_probs_of(policy, rows[f"{side}.latents"], conditioning, self.chain, self.settings.eta)
            - rows[f"{side}.base"]
            for side in _SIDES
        ]
        target = rows["difference"] / self.settings.beta
        snapshots = (rows["a.snapshot"], rows["b.snapshot"])
        loss = reward_difference((ratios[0], ratios[1]), snapshots, target, self.settings.clip)
        shown = {name: value for name, value in rows.items() if "/" in name}
        gap = (ratios[0] - ratios[1]).detach().sum(1) - target
        return StepOutput(loss, shown | {"regression/gap": gap.abs()})

    def memory(self) -> Memory:
        return join({"round": self.round.memory(), "terms": self.terms.memory()})

    def restore(self, memory: Memory) -> None:
        self.round.restore(split(memory, "round"))
        self.terms.restore(split(memory, "terms"))


ALGORITHMS.add("reward_regression", AlgorithmSpec(RewardRegressionSettings, RewardRegression.build), __name__)
