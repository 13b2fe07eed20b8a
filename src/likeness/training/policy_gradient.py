"""Policy gradient on the denoising chain: DDPO (2305.13301) and, on a flow's SDE, Flow-GRPO (2505.05470).

The chain is a Markov decision process: a state is (prompt, t, x_t), an action x_next; the picture brings the reward.
Shapes: n slots of this process, S steps of the chain, of which the first S - 1 draw noise and are learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.models.families import latent_shape
from likeness.objectives.policy_gradient import clipped, gaussian_kl, score_function
from likeness.training.advantage import ADVANTAGES, Advantage
from likeness.training.algorithm import Memory, Slots, StepOutput, join, split
from likeness.training.plan import ALGORITHMS, AlgorithmSpec
from likeness.training.rollout import sample_trajectories
from likeness.training.rounds import Round
from likeness.training.world import World

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.diffusion.path import Chain, Transition
    from likeness.models.families import Conditioning
    from likeness.models.policy import Policy
    from likeness.training.bench import Bench, PromptPool
    from likeness.training.terms import Terms


class PolicyGradientSettings(Config):
    """``steps`` and ``eta``: of the stochastic chain (1 is DDPM's noise; Flow-GRPO takes 0.7 on a flow's SDE).

    A slot draws one trajectory a round; ``images_per_prompt`` neighbouring slots draw for one prompt. Each optimiser
    step learns from ``times_per_step`` of its steps, in an order of its own, and a round lasts ``epochs`` passes over
    ``train_steps`` of them (0: all).

    ``clip``: of the ratio of densities per latent entry; DDPO's code takes 1e-4. ``advantage``: by name, held within
    ``advantage_clip``. ``kl``: weight of the divergence of each step from the reference model's.
    """

    steps: int = Field(8, gt=1)
    eta: float = Field(1.0, gt=0)
    objective: Literal["clipped", "score_function"] = "clipped"
    clip: float = Field(1e-4, gt=0)
    advantage: str = "batch"
    advantage_clip: float = Field(5.0, gt=0)
    images_per_prompt: int = Field(1, gt=0)
    train_steps: int = Field(0, ge=0)
    times_per_step: int = Field(1, gt=0)
    epochs: int = Field(1, gt=0)
    kl: float = Field(0.0, ge=0)

    @field_validator("advantage")
    @classmethod
    def _is_registered(cls, value: str) -> str:
        ADVANTAGES.get(value)
        return value

    @model_validator(mode="after")
    def _fits_the_chain(self) -> Self:
        if self.trained % self.times_per_step or self.trained > self.steps - 1:
            raise ConfigError(
                f"train_steps {self.trained} by {self.times_per_step} does not fit a chain with {self.steps - 1} "
                "stochastic steps",
                remedy="make train_steps at most steps - 1 and a multiple of times_per_step",
            )
        return self

    @property
    def trained(self) -> int:
        """Steps of a trajectory that are learnt from."""
        return self.train_steps or self.steps - 1

    @property
    def length(self) -> int:
        """Optimiser steps of a round."""
        return self.trained // self.times_per_step * self.epochs


@dataclass
class PolicyGradient:
    """The surrogate loss on trajectories of ``pool``'s prompts, whose pictures the terms score."""

    settings: PolicyGradientSettings
    terms: Terms
    pool: PromptPool
    chain: Chain
    shape: tuple[int, int, int]
    advantage: Advantage
    round: Round

    @classmethod
    def build(cls, settings: PolicyGradientSettings, bench: Bench) -> PolicyGradient:
        """The algorithm on the bench's pipeline.

        Raises:
            ConfigError: there is no reward.
        """
        bench.terms.require_some()
        chain, shape = bench.policy.path.chain(settings.steps), latent_shape(bench.policy.pipeline)
        advantage = ADVANTAGES.get(settings.advantage)()
        return cls(settings, bench.terms, bench.pool, chain, shape, advantage, Round(settings.length))

    @property
    def cycle(self) -> int:
        return self.round.length

    def prepare(self, policy: Policy, slots: Slots) -> None:
        if not self.round.is_over(slots):
            return
        self.terms.begin(slots.step)
        group = self.settings.images_per_prompt
        if slots.count % group:
            raise ConfigError(
                f"{slots.count} samples a step are no whole groups of {group}",
                remedy="make batch (each process's part of it) a multiple of images_per_prompt",
            )
        prompt = slots.every(group).integers(0, len(self.pool), "policy gradient/prompt").repeat_interleave(group)
        self.round.begin(slots, self._collect(policy, slots, prompt))

    def _collect(self, policy: Policy, slots: Slots, prompt: Tensor) -> dict[str, Tensor]:
        """One trajectory a slot, and how good it was."""
        import torch

        noises = [slots.noise(self.shape, f"policy gradient/noise/{step}") for step in range(len(self.chain))]
        with torch.no_grad():
            drawn = sample_trajectories(
                policy, noises, policy.encode(self.pool.prompts, prompt), self.chain, self.settings.eta
            )
            readings = self.terms.read(policy.decode(drawn.x0), self.pool.conditions(prompt))
            self.terms.keep(readings)
            reward = self.terms.total(readings)
        return {
            "latents": drawn.latents,
            "log_probs": drawn.log_probs,
            "prompt": prompt,
            "advantage": self._advantage(reward, slots, prompt),
            "order": self._order(slots),
            **self.terms.metrics(readings),
        }

    def _advantage(self, reward: Tensor, slots: Slots, prompt: Tensor) -> Tensor:
        """Of this process's slots, but in the light of all processes' rewards."""
        import torch

        world = World.join()
        group = (torch.arange(slots.count) + slots.first) // self.settings.images_per_prompt
        everyone = self.advantage(world.gather(reward), world.gather(group), world.gather(prompt))
        own = everyone[world.rank * slots.count :][: slots.count]
        return own.clamp(-self.settings.advantage_clip, self.settings.advantage_clip)

    def _order(self, slots: Slots) -> Tensor:
        """(n, length * times_per_step) which steps of its trajectory each slot learns from, and when."""
        import torch

        rows = []
        for generator in slots.generators("policy gradient/order"):
            chosen = torch.randperm(len(self.chain) - 1, generator=generator)[: self.settings.trained]
            epochs = [torch.randperm(len(chosen), generator=generator) for _ in range(self.settings.epochs)]
            rows.append(torch.cat([chosen[epoch] for epoch in epochs]))
        return torch.stack(rows)

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        import torch

        rows, each = self.round.take(slots), self.settings.times_per_step
        begin = self.round.position(slots) * each
        conditioning, anchor = policy.encode(self.pool.prompts, rows["prompt"]), None
        if self.settings.kl:
            with torch.no_grad(), policy.reference():  # text encoders go back too, if they are trained
                anchor = policy.encode(self.pool.prompts, rows["prompt"])
        parts = [self._one(policy, rows, rows["order"][:, begin + i], conditioning, anchor) for i in range(each)]
        metrics = {name: torch.stack([p.metrics[name] for p in parts]).mean(0) for name in parts[0].metrics}
        shown = {name: value for name, value in rows.items() if "/" in name}
        return StepOutput(torch.stack([p.loss for p in parts]).mean(0), shown | metrics)

    def _one(
        self,
        policy: Policy,
        rows: dict[str, Tensor],
        time: Tensor,
        conditioning: Conditioning,
        anchor: Conditioning | None,
    ) -> StepOutput:
        """Loss of one step of each trajectory, that at index ``time`` (b,). ``anchor``: the reference's conditioning,
        where the policy is held near it."""
        import torch

        settings, every = self.settings, torch.arange(len(time))
        x_t, x_next = rows["latents"][every, time], rows["latents"][every, time + 1]
        old, advantage = rows["log_probs"][every, time], rows["advantage"]
        now = self._transition(policy, x_t, time, conditioning)
        log_prob = now.log_prob(x_next)
        ratio = (log_prob.detach() - old).exp()
        metrics = {
            "policy/ratio_off_one": (ratio - 1).abs(),
            "policy/clipped": ((ratio - 1).abs() > settings.clip).float(),
            "policy/advantage": advantage.abs(),
        }
        if settings.objective == "clipped":
            loss = clipped(log_prob, old, advantage, settings.clip)
        else:
            loss = score_function(log_prob, advantage)
        if anchor is not None:
            with torch.no_grad(), policy.reference():
                before = self._transition(policy, x_t, time, anchor)
            divergence = gaussian_kl(now.mean, before.mean, now.std)
            loss, metrics["policy/kl"] = loss + settings.kl * divergence, divergence.detach()
        return StepOutput(loss, metrics)

    def _transition(self, policy: Policy, x_t: Tensor, time: Tensor, conditioning: Conditioning) -> Transition:
        steps = [self.chain[i] for i in time.tolist()]
        t, t_next = (policy.path.times(list(values)) for values in zip(*steps, strict=True))
        return policy.path.transition(policy.predict(x_t, t, conditioning), x_t, t, t_next, self.settings.eta)

    def memory(self) -> Memory:
        return join({"round": self.round.memory(), "advantage": self.advantage.memory(), "terms": self.terms.memory()})

    def restore(self, memory: Memory) -> None:
        self.round.restore(split(memory, "round"))
        self.advantage.restore(split(memory, "advantage"))
        self.terms.restore(split(memory, "terms"))


ALGORITHMS.add("policy_gradient", AlgorithmSpec(PolicyGradientSettings, PolicyGradient.build), __name__)
