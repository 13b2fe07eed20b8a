"""The subjects an adapter was trained for: the word that stands for each in a prompt, and the embedding of its face."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.core.io import atomic_output

if TYPE_CHECKING:
    from torch import Tensor

FILE = "subjects.safetensors"


@dataclass(frozen=True)
class Subjects:
    """``embeddings``: token -> (D,) float32, the L2-normalised mean of the subject's references; at least one."""

    embeddings: Mapping[str, Tensor]

    def of(self, prompts: Sequence[str]) -> Tensor:
        """(B, D): the embedding of the subject that each prompt names first, zeros where it names none."""
        import torch

        nobody = torch.zeros_like(next(iter(self.embeddings.values())))
        return torch.stack([self._named(prompt, nobody) for prompt in prompts])

    def _named(self, prompt: str, nobody: Tensor) -> Tensor:
        found = {token: re.search(rf"(?<!\w){re.escape(token)}(?!\w)", prompt) for token in self.embeddings}
        places = {token: match.start() for token, match in found.items() if match is not None}
        return self.embeddings[min(places, key=places.__getitem__)] if places else nobody

    def save(self, folder: Path) -> None:
        """Write :data:`FILE` beside the adapter."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        with atomic_output(folder / FILE, folder=False) as temporary:
            save_file({token: value.cpu().contiguous() for token, value in self.embeddings.items()}, temporary)

    @classmethod
    def load(cls, folder: Path) -> Subjects | None:
        """What :meth:`save` wrote at ``folder``; None where the adapter there reads no embeddings."""
        from safetensors.torch import load_file

        return cls(load_file(folder / FILE)) if (folder / FILE).is_file() else None
