"""Pictures of every variant for equal prompts and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.evaluation.prompts import noise_seeds
from likeness.evaluation.readings import Pixels, Request
from likeness.models.drawing import Sampling, draw
from likeness.models.generator import generate

if TYPE_CHECKING:
    from torch import Tensor


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

        prompts, seeds = [request.prompt for request in requests], noise_seeds(requests, self.seed)
        out: dict[str, list[Pixels]] = {}
        for name, lora in self.variants.items():
            with self._in_place(lora):
                drawn = draw(
                    self.pipeline,
                    prompts,
                    seeds,
                    self.kept / f"{name}-{requests[0].index}",
                    self.sampling,
                    faces=_faces(lora, prompts),
                    drawn_by=self.base if lora is None else None,
                )
                out[name] = list(tqdm(drawn, f"evaluate {name}", len(requests), unit="picture"))
        return out

    def flops(self, variant: str, request: Request) -> int:
        """Operations of one picture, which is kept nowhere."""
        from likeness.training.flops import FlopCounter

        lora, prompts = self.variants[variant], [request.prompt]
        with self._in_place(lora), FlopCounter() as counter:
            generate(self.pipeline, prompts, [0], **asdict(self.sampling), faces=_faces(lora, prompts))
        return int(counter.flops)

    def _in_place(self, lora: Path | None) -> AbstractContextManager[Any]:
        from likeness.models.policy import tuned

        return nullcontext() if lora is None else tuned(self.pipeline, lora)


def _faces(lora: Path | None, prompts: Sequence[str]) -> Tensor | None:
    """(B, D) of the subjects that an image-prompt adapter knows; None for another variant."""
    from likeness.models.subjects import Subjects

    subjects = None if lora is None else Subjects.load(lora)
    return subjects.of(prompts) if subjects else None
