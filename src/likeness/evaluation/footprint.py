"""What a variant takes to use: operations a picture and bytes beside the base model, counted and not timed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from likeness.evaluation.distances import SetEstimate
from likeness.evaluation.statistics import Array

if TYPE_CHECKING:
    from likeness.evaluation.readings import Request
    from likeness.evaluation.sampling import Sampler
    from likeness.evaluation.sets import Distance


def footprints(sampler: Sampler, request: Request) -> dict[str, Array]:
    """(1, 2) of each variant: 10^12 operations for the picture of ``request``, 10^6 bytes of weights beside the base.

    One and two steps are drawn and counted: each further step costs what the second did.
    """
    steps = sampler.sampling.steps
    one, two = (replace(sampler, sampling=replace(sampler.sampling, steps=few)) for few in (1, 2))
    out = {}
    for name, lora in sampler.variants.items():
        first = one.flops(name, request)
        tflop = (first + (steps - 1) * (two.flops(name, request) - first)) / 1e12
        size = 0 if lora is None else sum(file.stat().st_size for file in lora.rglob("*.safetensors"))
        out[name] = np.array([[tflop, size / 1e6]])
    return out


def weighed(column: int) -> Distance:
    """The number itself, which no other sample of pictures would change."""

    def score(a: Array, b: Array, /, *, seed: int, replicates: int) -> SetEstimate:
        value = float(a[0, column])
        return SetEstimate(value, np.full(replicates, value), 1)

    return score
