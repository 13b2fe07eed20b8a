"""Pictures of every variant for equal prompts and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likeness.evaluation.prompts import noise_seeds
from likeness.evaluation.readings import Pixels, Request
from likeness.models.drawing import Sampling, draw


@dataclass(frozen=True)
class Sampler:
    """``variants``: name -> LoRA or adapter, None for the base model alone, whose folder has the digest ``base``;
    ``kept``: where pictures outlive a kill."""

    pipeline: Any
    base: str
    variants: Mapping[str, Path | None]
    kept: Path
    seed: int
    sampling: Sampling

    def draw(self, requests: Sequence[Request]) -> dict[str, list[Pixels]]:
        """(H, W, 3) uint8 of each variant, one a request."""
        from tqdm import tqdm

        from likeness.models.policy import tuned
        from likeness.models.subjects import Subjects

        prompts, seeds = [request.prompt for request in requests], noise_seeds(requests, self.seed)
        out: dict[str, list[Pixels]] = {}
        for name, lora in self.variants.items():
            subjects = Subjects.load(lora) if lora is not None else None
            with tuned(self.pipeline, lora) if lora is not None else nullcontext():
                drawn = draw(
                    self.pipeline,
                    prompts,
                    seeds,
                    self.kept / f"{name}-{requests[0].index}",
                    self.sampling,
                    faces=subjects.of(prompts) if subjects else None,
                    drawn_by=self.base if lora is None else None,
                )
                out[name] = list(tqdm(drawn, f"evaluate {name}", len(requests), unit="picture"))
        return out
