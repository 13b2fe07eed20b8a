"""The one loop that trains every embedded model: AdamW, one-cycle rate, clipped gradients, optional EMA."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from likeness.core.config import Config

if TYPE_CHECKING:
    from torch import Tensor, nn


class FitConfig(Config):
    """``ema`` is the decay of the averaged weights that are kept at the end; 0 keeps the last ones."""

    steps: int
    learning_rate: float
    weight_decay: float = 0.0
    ema: float = 0.0


def fit(
    modules: Iterable[nn.Module],
    loss_at: Callable[[int], Tensor],
    config: FitConfig,
    name: str,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Minimise ``loss_at(step)`` (a scalar) over the modules' parameters; returns the mean of the last 50 losses."""
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
    from tqdm import tqdm

    bundle = torch.nn.ModuleList(modules).train()
    parameters = [p for p in bundle.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, config.steps, pct_start=0.03)
    average = AveragedModel(bundle, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema else None
    recent: list[float] = []
    bar = tqdm(range(config.steps), desc=name, mininterval=5.0)
    for step in bar:
        loss = loss_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if average is not None:
            average.update_parameters(bundle)
        recent = [*recent[-49:], float(loss.detach())]
        bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", refresh=False)
        if on_step is not None:
            on_step(step)
    if average is not None:
        bundle.load_state_dict(average.module.state_dict())
    bundle.eval()
    return sum(recent) / len(recent)
