"""Noise paths: how clean latents become noise, what a network's output means on the way, and steps back.

Notation: x0 clean latents, eps unit noise, x_t noised latents, all (B, C, h, w); t (B,) timesteps as the network takes
them, larger is noisier; ``t_next`` (B,) where a step arrives, :data:`END` (-1) for clean latents. Timesteps may be on
another device than the latents: results are on that of the latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from likeness.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor


END = -1
Chain = tuple[tuple[float, float], ...]  # (t, t_next) of each step of a sampler, from pure noise down


@dataclass(frozen=True)
class Transition:
    """p(x_next | x_t) = N(mean, std^2 I). ``mean``: (B, C, h, w); ``std``: (B, 1, 1, 1), 0 where nothing is drawn."""

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """x_next for unit noise (B, C, h, w)."""
        return self.mean + self.std * noise

    def log_prob(self, x_next: Tensor) -> Tensor:
        """Log density per latent entry, (B,): the mean over entries, as DDPO (2305.13301) and its heirs compute it.

        The ratio of two policies then does not depend on the size of the latent, nor do the clip ranges of papers.
        Not finite where ``std`` is 0: a step that draws nothing has no density.
        """
        import math

        z = (x_next - self.mean) / self.std
        return (-0.5 * z.square() - self.std.log() - 0.5 * math.log(2 * math.pi)).flatten(1).mean(1)


class Path(Protocol):
    """What training and sampling need to know of a noise path. All tensors are (B, C, h, w) but t, (B,)."""

    def chain(self, steps: int) -> Chain:
        """The steps of the pipeline's own sampler."""
        ...

    def draw(self, uniform: Tensor) -> Tensor:
        """Training timesteps (B,) for uniform draws (B,) in [0, 1)."""
        ...

    def times(self, values: list[float]) -> Tensor:
        """``values`` as timesteps (B,) of the dtype that the network takes."""
        ...

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t."""
        ...

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What a perfect network would predict at x_t."""
        ...

    def to_x0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean latents that ``prediction`` implies."""
        ...

    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio (B,), power of x0's part over power of eps' part."""
        ...

    def prediction_weight(self, weight_eps: Tensor, t: Tensor) -> Tensor:
        """A weight of the squared error of eps (B,), as the weight of the network's own output's squared error."""
        ...

    def transition(self, prediction: Tensor, x_t: Tensor, t: Tensor, t_next: Tensor, eta: float = 0.0) -> Transition:
        """One step of the sampler; ``eta`` 0 is deterministic, larger draws more noise."""
        ...


@dataclass(frozen=True)
class Parameterisation:
    """What the network predicts. ``c`` = sqrt(a_t) and ``s`` = sqrt(1 - a_t), broadcast over latents."""

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (x0, eps, c, s)
    to_x0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (prediction, x_t, c, s)
    eps_weight: Callable[[Tensor], Tensor]  # snr -> d eps^2 / d prediction^2 at fixed x_t
    at_zero_snr: bool  # whether x0 can be told from the prediction where a_t = 0


PARAMETERISATIONS: Mapping[str, Parameterisation] = {
    "epsilon": Parameterisation(
        target=lambda x0, eps, c, s: eps,
        to_x0=lambda prediction, x_t, c, s: (x_t - s * prediction) / c,
        eps_weight=lambda snr: snr.new_ones(snr.shape),
        at_zero_snr=False,
    ),
    "v_prediction": Parameterisation(
        target=lambda x0, eps, c, s: c * eps - s * x0,
        to_x0=lambda prediction, x_t, c, s: c * x_t - s * prediction,
        eps_weight=lambda snr: snr / (snr + 1),
        at_zero_snr=True,
    ),
    "sample": Parameterisation(
        target=lambda x0, eps, c, s: x0,
        to_x0=lambda prediction, x_t, c, s: prediction,
        eps_weight=lambda snr: snr,
        at_zero_snr=True,
    ),
}


@dataclass(frozen=True)
class NoisePath:
    """x_t = sqrt(a_t) x0 + sqrt(1 - a_t) eps; the only place that knows epsilon, v and x0 prediction apart.

    t is int64. ``alphas_cumprod``: (T,) float32, falling from 1 at no noise; 0 at the end is zero terminal SNR (Lin et
    al., 2305.08891). ``final_alpha``: a after the last denoising step, as the pipeline's DDIM sampler uses it.
    """

    alphas_cumprod: Tensor
    parameterisation: Parameterisation
    final_alpha: Tensor
    sampler: Any

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> NoisePath:
        """The path that a diffusers scheduler's config describes.

        Raises:
            ConfigError: the prediction type is unknown, or cannot be inverted at this schedule's last timestep.
        """
        kind = scheduler.config.prediction_type
        if kind not in PARAMETERISATIONS:
            hint = did_you_mean(kind, PARAMETERISATIONS)
            raise ConfigError(f"no noise path for prediction_type '{kind}'", remedy=hint)
        sampler = ddim_sampler(scheduler)
        alphas = sampler.alphas_cumprod.float()
        parameterisation = PARAMETERISATIONS[kind]
        if not parameterisation.at_zero_snr and float(alphas[-1]) <= 0:
            raise ConfigError(
                f"a scheduler with zero terminal SNR cannot use '{kind}': at its last timestep x0 is lost",
                remedy="set prediction_type to v_prediction or sample, or rescale_betas_zero_snr to false",
            )
        return cls(alphas, parameterisation, sampler.final_alpha_cumprod.float(), sampler)

    @property
    def length(self) -> int:
        """Number T of timesteps."""
        return len(self.alphas_cumprod)

    def chain(self, steps: int) -> Chain:
        """The DDIM chain of ``steps``, as the diffusers sampler itself visits it."""
        self.sampler.set_timesteps(steps)
        stride = self.sampler.config.num_train_timesteps // steps
        return tuple((t, max(t - stride, END)) for t in self.sampler.timesteps.tolist())

    def draw(self, uniform: Tensor) -> Tensor:
        """Every timestep alike."""
        return (uniform * self.length).long()

    def times(self, values: list[float]) -> Tensor:
        import torch

        return torch.tensor([int(value) for value in values])

    def _scales(self, t: Tensor, device: Any) -> tuple[Tensor, Tensor]:
        """sqrt(a_t), sqrt(1 - a_t) as (B, 1, 1, 1) on ``device``; t = -1 stands for the end of sampling."""
        alpha = self.alphas_cumprod.to(t.device)[t.clamp(min=0)].where(t >= 0, self.final_alpha.to(t.device))
        alpha = alpha.view(-1, 1, 1, 1).to(device)
        return alpha.sqrt(), (1 - alpha).sqrt()

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t."""
        c, s = self._scales(t, x0.device)
        return c * x0 + s * eps

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What a perfect network would predict at x_t."""
        return self.parameterisation.target(x0, eps, *self._scales(t, x0.device))

    def to_x0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean latents that ``prediction`` implies."""
        return self.parameterisation.to_x0(prediction, x_t, *self._scales(t, x_t.device))

    def snr(self, t: Tensor) -> Tensor:
        """a_t / (1 - a_t)."""
        c, s = self._scales(t, t.device)
        return (c / s).square().flatten()

    def prediction_weight(self, weight_eps: Tensor, t: Tensor) -> Tensor:
        return weight_eps * self.parameterisation.eps_weight(self.snr(t))

    def transition(self, prediction: Tensor, x_t: Tensor, t: Tensor, t_next: Tensor, eta: float = 0.0) -> Transition:
        """DDIM step (Song et al., 2010.02502, eq. 12 and 16): ``eta`` 0 is DDIM, 1 is DDPM.

        sigma^2 = eta^2 (1 - a') / (1 - a) (1 - a / a'), mean = sqrt(a') x0 + sqrt(1 - a' - sigma^2) eps, a' at t_next.
        """
        c, s = self._scales(t, x_t.device)
        c_next, s_next = self._scales(t_next, x_t.device)
        x0 = self.parameterisation.to_x0(prediction, x_t, c, s)
        eps = (x_t - c * x0) / s
        std = eta * s_next / s * (1 - (c / c_next).square()).clamp(min=0).sqrt()
        return Transition(c_next * x0 + (s_next.square() - std.square()).clamp(min=0).sqrt() * eps, std)


def ddim_sampler(scheduler: Any) -> Any:
    """A DDIMScheduler with the noise schedule and timestep spacing of any diffusers scheduler."""
    from diffusers import DDIMScheduler

    # Other families' configs lack DDIM's clip_sample, whose default of True is for pixels, not latents.
    return DDIMScheduler.from_config(scheduler.config, clip_sample=False, thresholding=False)
