"""Learning from pairs that the policy draws and the rewards order, at every step anew.

Online AI feedback (2402.04792, algorithm 1) with rewards as its annotator and the pair losses of diffusion models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import Field

from likeness.models.families import latent_shape
from likeness.training.algorithm import Memory, Slots, StepOutput
from likeness.training.pairs import NoisedPairs, PairDraws, PairSettings, pair_output
from likeness.training.plan import ALGORITHMS, AlgorithmSpec
from likeness.training.rollout import finish
from likeness.training.rounds import Round

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.diffusion.path import Chain
    from likeness.models.policy import Policy
    from likeness.training.bench import Bench, PromptPool
    from likeness.training.terms import Terms

NAME = "paired_online"


class OnlinePairedSettings(PairSettings):
    """``samples``: K pictures drawn for each prompt, of which the best and the worst make the pair; ``steps``: of their
    rollouts."""

    samples: int = Field(4, ge=2)
    steps: int = Field(4, gt=0)


@dataclass
class OnlinePaired:
    """The pair loss on the best and the worst of K pictures of each of ``pool``'s prompts drawn. A tie costs nothing
    and teaches nothing; its slot stays in the mean, and is counted."""

    cycle = 1

    settings: OnlinePairedSettings
    terms: Terms
    pool: PromptPool
    chain: Chain
    shape: tuple[int, int, int]
    round: Round = field(default_factory=lambda: Round(1), repr=False)

    @classmethod
    def build(cls, settings: OnlinePairedSettings, bench: Bench) -> OnlinePaired:
        """The algorithm on the bench's rewards, which need no gradient.

        Raises:
            ConfigError: the plan names no reward.
        """
        bench.terms.require_some()
        policy = bench.policy
        return cls(settings, bench.terms, bench.pool, policy.path.chain(settings.steps), latent_shape(policy.pipeline))

    def prepare(self, policy: Policy, slots: Slots) -> None:
        import torch

        self.terms.begin(slots.step)
        prompt = slots.integers(0, len(self.pool), f"{NAME}/prompt")
        drawn = [self._sample(policy, slots, prompt, k) for k in range(self.settings.samples)]
        latents = torch.stack([x0 for x0, _ in drawn], 1)
        readings = {name: torch.stack([found[name] for _, found in drawn], 1) for name in self.terms.rewards}
        self.terms.keep({name: values.flatten() for name, values in readings.items()})
        total = self.terms.total_of_draws(readings)
        best, worst = total.max(1), total.min(1)
        metrics = {name: values.mean(1) for name, values in self.terms.metrics(readings).items()}
        tied = best.values == worst.values
        pairs = {
            "latents": latents[torch.arange(slots.count)[:, None], torch.stack([best.indices, worst.indices], 1)],
            "prompt": prompt,
            "tied": tied,
        }
        gap = {f"gap/{NAME}": best.values - worst.values, f"tied/{NAME}": tied.float()}
        self.round.begin(slots, {**pairs, **metrics, **gap})

    def _sample(self, policy: Policy, slots: Slots, prompt: Tensor, k: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The k-th picture of every slot: clean latents (B, C, h, w), and each reward's (B,) reading of it."""
        import torch

        with torch.no_grad():
            noise = slots.noise(self.shape, f"{NAME}/rollout/{k}")
            x0 = finish(policy, noise, policy.encode(self.pool.prompts, prompt), self.chain)
            return x0, self.terms.read(policy.decode(x0), self.pool.conditions(prompt))

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        rows = self.round.take(slots)
        latents, prompt, tied = (rows.pop(name) for name in ("latents", "prompt", "tied"))
        x0 = latents.transpose(0, 1).flatten(0, 1)
        draws = PairDraws(NAME, [slots], self.settings.share_noise)
        noised = NoisedPairs.at(policy, x0, prompt, draws)
        reference = noised.reference_errors(policy, self.pool.prompts)
        output = pair_output(self.settings, NAME, noised.errors(policy, self.pool.prompts), reference)
        return StepOutput(output.loss * ~tied, {**output.metrics, **rows})

    def memory(self) -> Memory:
        return self.terms.memory()

    def restore(self, memory: Memory) -> None:
        self.terms.restore(memory)


ALGORITHMS.add(NAME, AlgorithmSpec(OnlinePairedSettings, OnlinePaired.build), __name__)
