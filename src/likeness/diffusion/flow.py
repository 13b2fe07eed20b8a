"""The straight path of rectified flow (Liu et al., 2209.03003), which Stable Diffusion 3 and Flux are trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likeness.core.errors import ConfigError
from likeness.diffusion.path import END, Chain, NoisePath, Path, Transition

if TYPE_CHECKING:
    from torch import Tensor

Timing = Callable[[int], Mapping[str, Any]]  # number of steps -> what a pipeline tells its scheduler's set_timesteps


def count_only(steps: int) -> Mapping[str, Any]:
    """A pipeline that leaves the times to its scheduler."""
    return {"num_inference_steps": steps}


@dataclass(frozen=True)
class FlowPath:
    """x_t = (1 - s) x0 + s eps with s = t / ``length`` in (0, 1]; the network predicts the velocity eps - x0.

    t is float32 in (0, ``length``], the timestep that SD3's and Flux's transformers are called with.
    """

    sampler: Any
    length: int
    timing: Timing

    @classmethod
    def from_scheduler(cls, scheduler: Any, timing: Timing = count_only) -> FlowPath:
        """The path of a FlowMatchEulerDiscreteScheduler.

        Raises:
            ConfigError: its time runs the other way.
        """
        if scheduler.config.invert_sigmas:
            raise ConfigError("a flow whose sigmas are inverted has no path here", remedy="set invert_sigmas to false")
        return cls(deepcopy(scheduler), int(scheduler.config.num_train_timesteps), timing)

    def chain(self, steps: int) -> Chain:
        """The pipeline's own times, the shift towards noise included."""
        self.sampler.set_timesteps(**self.timing(steps))
        times = self.sampler.timesteps.tolist()
        return tuple(zip(times, [*times[1:], END], strict=True))

    def draw(self, uniform: Tensor) -> Tensor:
        """Logit-normal times (Esser et al., 2403.03206, section 3.1): the middle of the path is drawn most often."""
        import torch

        # Away from 0 and 1, where the quantile is infinite.
        normal = torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4))
        times: Tensor = normal.sigmoid() * self.length
        return times

    def times(self, values: list[float]) -> Tensor:
        import torch

        return torch.tensor(values, dtype=torch.float32)

    def _sigma(self, t: Tensor, device: Any) -> Tensor:
        """s as (B, 1, 1, 1) on ``device``; 0 at the end."""
        return (t.float() / self.length).clamp(min=0).view(-1, 1, 1, 1).to(device)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t."""
        s = self._sigma(t, x0.device)
        return (1 - s) * x0 + s * eps

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The velocity, the same at every t."""
        return eps - x0

    def to_x0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t - s v."""
        return x_t - self._sigma(t, x_t.device) * prediction

    def snr(self, t: Tensor) -> Tensor:
        """((1 - s) / s)^2."""
        s = self._sigma(t, t.device)
        return ((1 - s) / s).square().flatten()

    def prediction_weight(self, weight_eps: Tensor, t: Tensor) -> Tensor:
        """eps = x_t + (1 - s) v, hence d eps^2 = (1 - s)^2 d v^2."""
        return weight_eps * (1 - self._sigma(t, t.device)).square().flatten()

    def transition(self, prediction: Tensor, x_t: Tensor, t: Tensor, t_next: Tensor, eta: float = 0.0) -> Transition:
        """Euler-Maruyama step of the SDE with the flow's own marginals (Flow-GRPO, 2505.05470, "from ODE to SDE").

        sigma_t = ``eta`` sqrt(s / (1 - s)); mean = x_t + [v + sigma_t^2 / (2 s) (x_t + (1 - s) v)] ds,
        std = sigma_t sqrt(-ds). ``eta`` 0 is the Euler step of the flow. s = 1 is taken as the end of the first step
        for sigma_t, as the paper's code does, where the formula has a pole.
        """
        s, s_next = self._sigma(t, x_t.device), self._sigma(t_next, x_t.device)
        step = s_next - s
        noise = eta * (s / (1 - s.where(s < 1, s_next))).sqrt()
        drift = prediction + noise.square() / (2 * s) * (x_t + (1 - s) * prediction)
        return Transition(x_t + drift * step, noise * (-step).sqrt())


def path_of(scheduler: Any, timing: Timing = count_only) -> Path:
    """The noise path that a diffusers scheduler's config describes. ``timing`` matters to flows only.

    Raises:
        ConfigError: there is none for its kind or its prediction type.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return FlowPath.from_scheduler(scheduler, timing)
    if not {"beta_schedule", "prediction_type"} <= scheduler.config.keys():
        raise ConfigError(
            f"no noise path for a {type(scheduler).__name__}: its config names no beta_schedule and prediction_type",
            remedy="give the pipeline the scheduler that its model was trained with: DDIM, DDPM, Euler and their kin, "
            "or FlowMatchEulerDiscreteScheduler",
        )
    return NoisePath.from_scheduler(scheduler)
