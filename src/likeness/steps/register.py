"""Step ``register``: put a model that passed its gate on record, or record that it was refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.io import write_json
from likeness.core.step import Metrics, StepSpec
from likeness.registration.decision import read_decision, require_about
from likeness.registration.events import NAME
from likeness.registration.register import register as put_on_record
from likeness.registration.registry import DEFAULT_CHANNEL, Registry


class RegisterConfig(Config):
    """``store``: the registry, a folder or ``s3://BUCKET/PREFIX``. ``channel``: where the model goes live.

    ``licences``: what the model is made of, and under which licence.
    """

    store: str = "registry"
    name: str = Field(default="likeness-lora", pattern=NAME)
    channel: str = Field(default=DEFAULT_CHANNEL, pattern=NAME)
    licences: dict[str, str] = Field(default_factory=dict)


def register(config: RegisterConfig, lora: Path, decision: Path, registration: Path) -> Metrics:
    """Register the model under its decision; a refused model is recorded as refused, with the gate's reasons."""
    verdict = read_decision(decision)
    require_about(verdict, lora)
    record: dict[str, Any] = {
        "status": "refused",
        "version": None,
        "store": config.store,
        "name": config.name,
        "channel": config.channel,
        "reasons": verdict.failures,
        "manifest_digest": None,
        "candidate_digest": verdict.candidate_digest,
        "licences": config.licences,
    }
    if verdict.passed:
        done = put_on_record(
            Registry.open(config.store), config.name, lora, decision, config.licences, channel=config.channel
        )
        texts = [str(reason["text"]) for reason in verdict.reasons]
        record |= {"status": "registered", "version": done.version, "manifest_digest": done.manifest_digest}
        record["reasons"] = texts
    write_json(registration / "registration.json", record)
    return {"status": record["status"], "version": record["version"] or 0}


SPEC = StepSpec(
    name="register",
    version="2",
    category="registration",
    config=RegisterConfig,
    run=register,
    inputs={"lora": ArtifactKind.LORA, "decision": ArtifactKind.DECISION},
    outputs={"registration": ArtifactKind.REGISTRATION},
)
