"""Model folders with a decision about them that no gate had to be run for, and a registry on each kind of store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from likeness.core.io import digest_path, write_json
from likeness.registration.decision import write_decision
from likeness.registration.register import Record, register
from likeness.registration.registry import Registry

WEIGHTS = "pytorch_lora_weights.safetensors"


def planted(folder: Path, content: bytes, *, passed: bool = True) -> tuple[Path, Path]:
    """A model of these weights and a decision about it."""
    lora = folder / "lora"
    lora.mkdir(parents=True)
    (lora / WEIGHTS).write_bytes(content)
    return lora, decided(lora, folder / "decision", passed=passed)


def decided(lora: Path, decision: Path, *, passed: bool = True) -> Path:
    """A decision about the model in ``lora``."""
    decision.mkdir()
    write_json(lora / "training.json", {"recipe": "planted"})
    figures = {"value": 0.3, "ci_low": 0.2, "ci_high": 0.4, "threshold": 0.0 if passed else 0.5}
    text = f"identity +0.300 [+0.200, +0.400]: {'passes' if passed else 'FAILS'}"
    reason = {"rule": "identity_superiority", "metric": "identity", "passed": passed, "text": text, **figures}
    record = {"passed": passed, "reasons": [reason], "candidate_digest": digest_path(lora), "baseline": "base"}
    write_decision(decision, record)
    return decision


def put(registry: Registry, folder: Path, content: bytes, name: str = "m", **options: Any) -> Record:
    """Register a planted model."""
    return register(registry, name, *planted(folder, content, passed="forced" not in options), **options)


def live(registry: Registry, channel: str = "production", name: str = "m") -> list[int]:
    """Versions in the order in which they went live."""
    return [move.version for move in registry.state().history(name, channel)]
