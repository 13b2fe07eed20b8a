"""What learning from pairs shares, whoever ordered them: draws, noised pairs, their errors, and the loss on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from likeness.core.config import Config
from likeness.core.errors import UnknownNameError, did_you_mean
from likeness.objectives.pair import PAIR_LOSSES, implicit_margin, smoothed
from likeness.objectives.regression import denoising_mse
from likeness.training.algorithm import Slots, StepOutput

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.policy import Policy, Prompts


class PairSettings(Config):
    """``loss``: its name in :data:`~likeness.objectives.pair.PAIR_LOSSES`; ``beta``: of the margin, see
    :func:`~likeness.objectives.pair.implicit_margin`; ``smoothing``: share of the votes taken to be turned round.

    ``share_noise``: both pictures of a pair get the same t and eps, as in Diffusion-DPO (2311.12908: eq. 14 has one t,
    the authors' code one eps too); otherwise each has its own.
    """

    loss: str = "logistic"
    beta: float = Field(2500.0, gt=0)
    smoothing: float = Field(0.0, ge=0, lt=0.5)
    share_noise: bool = True

    @field_validator("loss")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in PAIR_LOSSES:
            raise UnknownNameError(f"there is no pair loss '{value}'", remedy=did_you_mean(value, PAIR_LOSSES))
        return value


def pair_output(settings: PairSettings, name: str, errors: Tensor, reference: Tensor) -> StepOutput:
    """The loss of B pairs from the policy's and the reference's errors (B, 2), chosen first.

    Logs the margin, and 1 where it orders the pair rightly (1/2 where it is 0).
    """
    margin = implicit_margin(*errors.unbind(1), *reference.unbind(1))
    loss = smoothed(PAIR_LOSSES[settings.loss], margin, settings.beta, settings.smoothing)
    seen = margin.detach()
    right = (seen.sign() + 1) / 2
    return StepOutput(loss, {f"loss/{name}": loss.detach(), f"margin/{name}": seen, f"accuracy/{name}": right})


@dataclass(frozen=True)
class PairDraws:
    """Random draws for the B pairs of ``sources``, the chosen pictures' first.

    ``shared``: a pair's pictures get the same t and eps; their posterior samples are always apart.
    """

    name: str
    sources: Sequence[Slots]
    shared: bool

    def posterior(self, shape: Sequence[int]) -> Tensor:
        """Unit normal (2B, *shape) for samples of the VAE's posteriors."""
        return self._both(lambda source, purpose: source.noise(shape, purpose), "posterior", shared=False)

    def noise(self, shape: Sequence[int]) -> Tensor:
        """eps (2B, *shape)."""
        return self._both(lambda source, purpose: source.noise(shape, purpose), "noise", shared=self.shared)

    def uniform(self) -> Tensor:
        """What timesteps are drawn from, (2B,) in [0, 1)."""
        return self._both(Slots.uniform, "timestep", shared=self.shared)

    def _both(self, draw: Callable[[Slots, str], Tensor], purpose: str, *, shared: bool) -> Tensor:
        import torch

        purposes = [f"{self.name}/{purpose}/{side}" for side in ("chosen", "chosen" if shared else "rejected")]
        return torch.cat([draw(source, each) for each in purposes for source in self.sources])


@dataclass(frozen=True)
class NoisedPairs:
    """B pairs on the noise path, the B chosen pictures before the B rejected: ``x_t`` and ``target`` (2B, C, h, w),
    ``t`` (2B,). ``prompt``: (B,) int64 into the prompts that errors are asked for."""

    x_t: Tensor
    t: Tensor
    target: Tensor
    prompt: Tensor

    @classmethod
    def at(cls, policy: Policy, x0: Tensor, prompt: Tensor, draws: PairDraws) -> NoisedPairs:
        """``x0``: (2B, C, h, w)."""
        path = policy.path
        eps, t = draws.noise(x0.shape[1:]), path.draw(draws.uniform())
        return cls(path.add_noise(x0, eps, t), t, path.target(x0, eps, t), prompt)

    def take(self, index: Tensor) -> NoisedPairs:
        """The pairs at ``index`` (B',)."""
        import torch

        both = torch.cat([index, index + len(self.prompt)])
        return NoisedPairs(self.x_t[both], self.t[both], self.target[both], self.prompt[index])

    def errors(self, policy: Policy, prompts: Prompts) -> Tensor:
        """Mean squared errors (B, 2) of the chosen and the rejected pictures, in one forward of both."""
        conditioning = policy.encode(prompts, self.prompt.repeat(2))
        return denoising_mse(policy.predict(self.x_t, self.t, conditioning), self.target).view(2, -1).T

    def reference_errors(self, policy: Policy, prompts: Prompts) -> Tensor:
        """:meth:`errors` of the base model, without gradient."""
        import torch

        with torch.no_grad(), policy.reference():
            return self.errors(policy, prompts)
