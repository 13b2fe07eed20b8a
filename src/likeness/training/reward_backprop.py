"""Reward backpropagation through the last denoising steps.

ReFL (2304.05977), ID-Aligner (2404.15449, algorithm 2), AlignProp (2310.03739), DRaFT-K and DRaFT-LV (2309.17400) are
settings of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.models.families import latent_shape
from likeness.training.algorithm import Memory, Slots, StepOutput
from likeness.training.plan import ALGORITHMS, AlgorithmSpec
from likeness.training.rollout import denoise, move_some

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.diffusion.path import Chain
    from likeness.models.families import Conditioning
    from likeness.models.policy import Policy
    from likeness.training.bench import Bench, PromptPool
    from likeness.training.terms import Terms


class RewardBackpropSettings(Config):
    """``steps``: of the rollout. ``late``: first and last index, counted from pure noise, of the step at which a
    sample's gradient starts, drawn for each (ID-Aligner's T1 and T2; both ``steps - K`` is DRaFT-K).

    ``through``: where the gradient ends. ``predict`` takes the clean latents that the network predicts at the start
    (ReFL); ``sample`` goes on along the chain to its end, with gradient in every step (AlignProp, DRaFT-K).

    ``share``: gradient samples that share one rollout, whose forwards are then paid once. ``spread``: in what they
    differ. ``late`` starts them at steps spread evenly over that range, which also lowers the gradient's variance;
    ``renoise`` starts them all at the last step, each from the finished picture with fresh noise (DRaFT-LV).
    """

    steps: int = Field(4, gt=0)
    late: tuple[int, int] = (2, 3)
    through: Literal["predict", "sample"] = "predict"
    share: int = Field(1, gt=0)
    spread: Literal["late", "renoise"] = "late"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not 0 <= self.late[0] <= self.late[1] < self.steps:
            raise ConfigError(
                f"late {list(self.late)} is not a range within 0..{self.steps - 1}",
                remedy="set late to the first and last index of a rollout step, counted from pure noise",
            )
        return self


@dataclass
class RewardBackprop:
    """The loss of the rewards' composition on pictures of ``pool``'s prompts."""

    cycle = 1

    settings: RewardBackpropSettings
    terms: Terms
    pool: PromptPool
    chain: Chain
    shape: tuple[int, int, int]
    _begun: dict[int, Tensor] = field(default_factory=dict, repr=False)  # slot -> latents where its gradient starts

    @classmethod
    def build(cls, settings: RewardBackpropSettings, bench: Bench) -> RewardBackprop:
        """The algorithm on the bench's pipeline.

        Raises:
            ConfigError: a reward or their composition gives no gradient.
        """
        bench.terms.require_gradient()
        policy = bench.policy
        return cls(settings, bench.terms, bench.pool, policy.path.chain(settings.steps), latent_shape(policy.pipeline))

    def prompts(self, slots: Slots) -> Tensor:
        """Prompt of each slot, (B,): those that share a rollout share it."""
        groups = slots.every(self.settings.share).integers(0, len(self.pool), "rollout/prompt")
        return groups.repeat_interleave(self.settings.share)

    def starts(self, slots: Slots) -> Tensor:
        """Step at which each slot's gradient starts, (B,): uniform over ``late``, evenly spread where a rollout is
        shared."""
        import torch

        share, (low, high) = self.settings.share, self.settings.late
        if self.settings.spread == "renoise":
            return torch.full((slots.count,), len(self.chain) - 1)
        offset = slots.every(share).uniform("rollout/stop")
        strata = (torch.arange(share) + offset[:, None]) / share
        # a float32 just below 1 may round to 1, a step behind the last
        return (low + (strata * (high + 1 - low)).long().flatten()).clamp(max=high)

    def prepare(self, policy: Policy, slots: Slots) -> None:
        import torch

        self.terms.begin(slots.step)
        share, renoise = self.settings.share, self.settings.spread == "renoise"
        if slots.count % share:
            raise ConfigError(
                f"{slots.count} samples a step cannot share rollouts by {share}",
                remedy="make batch (each process's part of it) a multiple of share",
            )
        rollouts = slots.every(share)
        rows, starts = torch.arange(slots.count) // share, self.starts(slots)
        columns = torch.full_like(starts, len(self.chain)) if renoise else starts
        wanted = torch.zeros(rollouts.count, len(self.chain) + 1, dtype=torch.bool)
        wanted[rows, columns] = True
        with torch.no_grad():
            conditioning = policy.encode(self.pool.prompts, self.prompts(slots)[::share])
        found = denoise(policy, rollouts.noise(self.shape, "rollout/noise"), conditioning, self.chain, wanted)
        latents = torch.stack([found[place] for place in zip(rows.tolist(), columns.tolist(), strict=True)])
        if renoise:
            t = self._times(policy, starts)
            latents = policy.path.add_noise(latents, slots.noise(self.shape, "rollout/renoise"), t)
        self._begun = {slots.first + i: latent for i, latent in enumerate(latents)}

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        import torch

        latents = torch.stack([self._begun[slots.first + i] for i in range(slots.count)])
        index, start = self._draws(slots)
        conditioning = policy.encode(self.pool.prompts, index)
        finish = self._predict if self.settings.through == "predict" else self._sample
        x0 = finish(policy, latents, start, conditioning)
        return self.terms(policy.decode(x0), self.pool.conditions(index))

    def memory(self) -> Memory:
        return self.terms.memory()

    def restore(self, memory: Memory) -> None:
        self.terms.restore(memory)

    def _draws(self, slots: Slots) -> tuple[Tensor, Tensor]:
        """Prompt and start of each slot; a micro-batch may begin in the middle of a shared rollout."""
        share = self.settings.share
        before = slots.first % share
        whole = Slots(slots.seed, slots.step, slots.first - before, -(-(before + slots.count) // share) * share)
        part = slice(before, before + slots.count)
        return self.prompts(whole)[part], self.starts(whole)[part]

    def _times(self, policy: Policy, steps: Tensor) -> Tensor:
        return policy.path.times([self.chain[step][0] for step in steps.tolist()])

    def _predict(self, policy: Policy, latents: Tensor, start: Tensor, conditioning: Conditioning) -> Tensor:
        """x0 as predicted at the start, with gradient through that one forward."""
        t = self._times(policy, start)
        return policy.path.to_x0(policy.predict(latents, t, conditioning), latents, t)

    def _sample(self, policy: Policy, latents: Tensor, start: Tensor, conditioning: Conditioning) -> Tensor:
        """x0 at the end of the chain, with gradient through every step from the start on."""
        first = len(self.chain) - policy.most(len(self.chain) - int(start.min()))
        for step in range(first, len(self.chain)):
            latents = move_some(policy, latents, start <= step, self.chain[step], conditioning)
        return latents


ALGORITHMS.add("reward_backprop", AlgorithmSpec(RewardBackpropSettings, RewardBackprop.build), __name__)
