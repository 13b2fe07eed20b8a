"""The noise path x_t = sqrt(a_t) x0 + sqrt(1 - a_t) eps, and what a network's output means on it.

Notation: x0 clean latents, eps unit noise, x_t noised latents, all (B, C, h, w); t (B,) int64 timesteps;
a_t = ``alphas_cumprod[t]``, 1 at no noise, 0 at pure noise (zero terminal SNR, Lin et al., 2305.08891).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likeness.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Parameterisation:
    """What the network predicts. ``c`` = sqrt(a_t) and ``s`` = sqrt(1 - a_t), broadcast over latents."""

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (x0, eps, c, s)
    to_x0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (prediction, x_t, c, s)
    at_zero_snr: bool  # whether x0 can be told from the prediction where a_t = 0


PARAMETERISATIONS: Mapping[str, Parameterisation] = {
    "epsilon": Parameterisation(
        target=lambda x0, eps, c, s: eps,
        to_x0=lambda prediction, x_t, c, s: (x_t - s * prediction) / c,
        at_zero_snr=False,
    ),
    "v_prediction": Parameterisation(
        target=lambda x0, eps, c, s: c * eps - s * x0,
        to_x0=lambda prediction, x_t, c, s: c * x_t - s * prediction,
        at_zero_snr=True,
    ),
    "sample": Parameterisation(
        target=lambda x0, eps, c, s: x0,
        to_x0=lambda prediction, x_t, c, s: prediction,
        at_zero_snr=True,
    ),
}


@dataclass(frozen=True)
class NoisePath:
    """One noise path; the only place that knows epsilon, v and x0 prediction apart.

    ``alphas_cumprod``: (T,) float32, falling. ``final_alpha``: a after the last denoising step, as the pipeline's
    DDIM sampler uses it.
    """

    alphas_cumprod: Tensor
    parameterisation: Parameterisation
    final_alpha: Tensor

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
        return cls(alphas, parameterisation, sampler.final_alpha_cumprod.float())

    @property
    def length(self) -> int:
        """Number T of timesteps."""
        return len(self.alphas_cumprod)

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(a_t), sqrt(1 - a_t) as (B, 1, 1, 1); t = -1 stands for the end of sampling."""
        alpha = self.alphas_cumprod.to(t.device)[t.clamp(min=0)].where(t >= 0, self.final_alpha.to(t.device))
        alpha = alpha.view(-1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t."""
        c, s = self._scales(t)
        return c * x0 + s * eps

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What a perfect network would predict at x_t."""
        return self.parameterisation.target(x0, eps, *self._scales(t))

    def to_x0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean latents that ``prediction`` implies."""
        return self.parameterisation.to_x0(prediction, x_t, *self._scales(t))

    def ddim_step(self, prediction: Tensor, x_t: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
        """DDIM step (Song et al., 2010.02502, eq. 12 with sigma 0) from t to ``t_next`` < t; -1 is the end."""
        c, s = self._scales(t)
        x0 = self.parameterisation.to_x0(prediction, x_t, c, s)
        eps = (x_t - c * x0) / s
        return self.add_noise(x0, eps, t_next)


def ddim_sampler(scheduler: Any) -> Any:
    """A DDIMScheduler with the noise schedule and timestep spacing of any diffusers scheduler."""
    from diffusers import DDIMScheduler

    # Other families' configs lack DDIM's clip_sample, whose default of True is for pixels, not latents.
    return DDIMScheduler.from_config(scheduler.config, clip_sample=False, thresholding=False)


def ddim_timesteps(scheduler: Any, steps: int) -> tuple[tuple[int, int], ...]:
    """(t, t_next) of a DDIM chain of ``steps``, from pure noise down, as the diffusers sampler itself visits them."""
    sampler = ddim_sampler(scheduler)
    sampler.set_timesteps(steps)
    stride = sampler.config.num_train_timesteps // steps
    return tuple((t, max(t - stride, -1)) for t in sampler.timesteps.tolist())
