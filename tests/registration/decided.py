"""Small model folders with the decision of a real gate about them."""

from __future__ import annotations

from pathlib import Path

from evaluation.planted import BAD, GOOD, rows
from likeness.core.io import digest_path, write_json
from likeness.core.step import execute
from likeness.evaluation.scores import SUMMARY, write_scores
from likeness.steps.gate import SPEC, GateConfig


def model(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "pytorch_lora_weights.safetensors").write_bytes(content.encode())
    write_json(folder / "training.json", {"recipe": "planted"})
    return folder


def decided(root: Path, lora: Path, *, good: bool = True) -> Path:
    """The decision folder that the gate step wrote about ``lora``."""
    result = root / "evaluation"
    result.mkdir(parents=True)
    write_scores(result, rows(GOOD if good else {**GOOD, **BAD["darkness_anchored"]}, prompts=24))
    write_json(result / SUMMARY, {"candidate_digest": digest_path(lora)})
    inputs = {"evaluation_result": result, "lora": lora}
    execute(SPEC, GateConfig(resamples=200), inputs, {"decision": root / "decision"})
    return root / "decision"
