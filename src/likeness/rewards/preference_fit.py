"""The course every reward model on pairs takes: descend with a position term, then calibrate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from likeness.rewards.fit import FitConfig, Scale, calibration, descend, pair_loss
from likeness.rewards.learnt import FitData
from likeness.rewards.pair_features import PairFeatures

if TYPE_CHECKING:
    from torch import Tensor, nn

UNSCALED = Scale()


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Torch's global generator starts from ``seed``, and is as it was afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def fit_preferences(
    net: nn.Module,
    raw: Callable[[Tensor, Tensor], Tensor],
    fit: FitConfig,
    data: FitData,
    quick: Sequence[nn.Parameter] = (),
    extra: Callable[[PairFeatures], Tensor] | None = None,
) -> tuple[Scale, dict[str, float | int]]:
    """Minimise the Bradley-Terry loss of ``raw`` over ``net`` and ``quick``; the scale, and the record.

    ``quick``: a few numbers that learn ten times as fast, undecayed. ``extra``: losses (P,) added to the votes'. Draws
    from torch's global generator.
    """
    import torch
    from torch import nn

    bias = nn.Parameter(torch.zeros(()))
    few = [*quick, *([bias] if fit.position_term else [])]
    groups: list[dict[str, Any]] = [{"params": list(net.parameters())}]
    if few:
        groups.append({"params": few, "weight_decay": 0.0, "lr": 10 * fit.learning_rate})
    module = nn.Module()
    module.net, module.few = net, nn.ParameterList([*quick, bias])

    def loss(pairs: PairFeatures) -> Tensor:
        of_votes = pair_loss(raw, pairs, bias)
        return of_votes if extra is None else of_votes + extra(pairs)

    went = descend(module, loss, fit, data.train, data.validation, [group for group in groups if group["params"]])
    scale = calibration(raw, data.train, data.validation)
    shown = round(float(bias) / scale.temperature, 6)
    return scale, {**went.record, "temperature": round(scale.temperature, 6), "position_bias": shown}
