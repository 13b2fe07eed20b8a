"""Reward backpropagation through the last denoising step (ReFL, 2304.05977; ID-Aligner, 2404.15449, algorithm 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likeness.core.errors import ConfigError
from likeness.diffusion.path import ddim_timesteps
from likeness.models.generator import Conditioning, encode_prompts, latent_shape
from likeness.objectives.reward import shortfall, weighted_sum
from likeness.rewards.base import Conditions, Reward
from likeness.training.algorithm import Slots, StepOutput
from likeness.training.rollout import predict_clean

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.policy import Policy


@dataclass(frozen=True)
class RewardTerm:
    """One reward of the sum: its loss is ``weight * (best - reward)``.

    ``zero_means_missed``: the reward is exactly 0 where no face was found; such samples are counted.
    """

    name: str
    reward: Reward
    weight: float
    best: float = 0.0
    zero_means_missed: bool = False


@dataclass(frozen=True)
class PromptPool:
    """N prompts to roll out, encoded once, with the mean reference embedding (N, D) of each prompt's subject.

    ``words``: what the rewards are told, which know no subject's token.
    """

    words: tuple[str, ...]
    embeddings: Tensor | None
    conditioning: Conditioning

    @classmethod
    def encode(
        cls, pipeline: Any, prompts: Sequence[str], embeddings: Tensor | None, words: Sequence[str] | None = None
    ) -> PromptPool:
        return cls(tuple(words or prompts), embeddings, encode_prompts(pipeline, prompts))

    def conditions(self, index: Tensor) -> Conditions:
        """What the rewards are told about the prompts at ``index`` (B,)."""
        embeddings = None if self.embeddings is None else self.embeddings[index]
        return Conditions(tuple(self.words[i] for i in index.tolist()), embeddings)


@dataclass(frozen=True)
class RewardBackprop:
    """``chain``: the DDIM steps (t, t_next); ``late``: first and last index in it of the step with gradient."""

    terms: tuple[RewardTerm, ...]
    pool: PromptPool
    chain: tuple[tuple[int, int], ...]
    late: tuple[int, int]
    shape: tuple[int, int, int]

    @classmethod
    def build(
        cls, pipeline: Any, terms: Sequence[RewardTerm], pool: PromptPool, *, steps: int, late: tuple[int, int]
    ) -> RewardBackprop:
        """The algorithm for this pipeline's sampler.

        Raises:
            ConfigError: a reward gives no gradient.
        """
        for term in terms:
            if not term.reward.differentiable:
                raise ConfigError(
                    f"reward '{term.name}' gives no gradient, which reward backpropagation needs",
                    remedy="use a differentiable reward, or weight it 0",
                )
        return cls(tuple(terms), pool, ddim_timesteps(pipeline.scheduler, steps), late, latent_shape(pipeline))

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        index = slots.integers(0, len(self.pool.words), "rollout/prompt")
        stop = slots.integers(self.late[0], self.late[1] + 1, "rollout/stop")
        noise = slots.noise(self.shape, "rollout/noise")
        x0 = predict_clean(policy, noise, self.pool.conditioning.take(index), self.chain, stop)
        images, conditions = policy.decode(x0), self.pool.conditions(index)
        metrics: dict[str, Tensor] = {}
        losses = []
        for term in self.terms:
            reward_B = term.reward(images, conditions)
            losses.append(shortfall(reward_B, term.best))
            metrics[f"reward/{term.name}"] = reward_B.detach()
            if term.zero_means_missed:
                metrics[f"missed/{term.name}"] = (reward_B.detach() == 0).float()
        return StepOutput(weighted_sum(losses, [term.weight for term in self.terms]), metrics)
