"""What flows between steps: artefact kinds, and the lineage written beside each artefact's content."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

from likeness.core.io import LINEAGE, read_json


class ArtifactKind(StrEnum):
    """The kind of one port. Every kind is a folder, except HTML, which is one file."""

    PHOTOS = "photos"  # image files, optionally with metadata.jsonl (Hugging Face imagefolder)
    SHARDS = "shards"  # Parquet shards in the Hugging Face image convention, with manifest.json
    ARRAYS = "arrays"  # NumPy arrays of rendered portraits
    TABLE = "table"  # Parquet tables without pixels
    PREFERENCES = "preferences"  # Parquet pairs: chosen and rejected
    VOTES = "votes"  # a folder with people's votes (CSV, JSONL, Parquet or an export) and the pictures they name
    MODEL = "model"  # a diffusers, transformers or reward-model folder in safetensors
    LORA = "lora"  # pytorch_lora_weights.safetensors and the run's records
    FACE_PACK = "face_pack"  # an insightface pack: ONNX files in one folder
    EVALUATION = "evaluation"  # per-sample scores and sample images
    DECISION = "decision"  # decision.json of a gate
    REGISTRATION = "registration"  # registration.json
    DOCS = "docs"  # a static HTML site
    CONSENT = "consent"  # ledger.jsonl: who may be used for what, until when
    FIGURES = "figures"  # tables of JSON rows, each to be drawn
    HTML = "html"  # one self-contained HTML file

    @property
    def is_file(self) -> bool:
        return self is ArtifactKind.HTML

    @property
    def suffix(self) -> str:
        """File suffix of an artefact of this kind ('' for folders)."""
        return ".html" if self.is_file else ""


def lineage_file(path: Path) -> Path:
    """Where the lineage record of an artefact is: in a folder, or beside a file."""
    return path / LINEAGE if path.is_dir() else path.with_name(path.name + LINEAGE)


def read_lineage(path: Path) -> dict[str, Any] | None:
    """The lineage record of an artefact, or None for one that no step wrote (a source)."""
    file = lineage_file(path)
    return read_json(file) if file.is_file() else None
