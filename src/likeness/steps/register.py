"""Step ``register``: put a model that passed its gate on record, or record that it was refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.io import write_json
from likeness.core.step import Metrics, StepSpec
from likeness.registration.card import About
from likeness.registration.decision import read_decision, require_about
from likeness.registration.events import NAME
from likeness.registration.register import Record
from likeness.registration.register import register as put_on_record
from likeness.registration.registry import DEFAULT_CHANNEL, PIPELINE, Registry
from likeness.registration.signing import require_key

SIGNING_KEY = "LIKENESS_SIGNING_KEY"  # a private EC key in PEM


class RegisterConfig(Config):
    """``store``: the registry, a folder or ``s3://BUCKET/PREFIX``. ``channel``: where the model goes live.

    ``licences``: what the model is made of, and under which licence.
    """

    store: str = "registry"
    name: str = Field(default="likeness-lora", pattern=NAME)
    channel: str = Field(default=DEFAULT_CHANNEL, pattern=NAME)
    licences: dict[str, str] = Field(default_factory=dict)


def register(config: RegisterConfig, lora: Path, decision: Path, samples: Path | None, registration: Path) -> Metrics:
    """Register the model under its decision; a refused model is recorded as refused, with the gate's reasons.

    Some of ``samples``, what ``evaluate`` drew, are shown on the model's card.
    With LIKENESS_SIGNING_KEY, the path of a private key, what is registered is signed.
    """
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
        done = _put_on_record(config, lora, decision, About(config.licences, samples))
        texts = [str(reason["text"]) for reason in verdict.reasons]
        record |= {"status": "registered", "version": done.version, "manifest_digest": done.manifest_digest}
        record["reasons"] = texts
    write_json(registration / "registration.json", record)
    return {"status": record["status"], "version": record["version"] or 0}


def _put_on_record(config: RegisterConfig, lora: Path, decision: Path, about: About) -> Record:
    """Register it, and sign it if the environment names a key: where that is kept is no property of the run."""
    registry, key = Registry.open(config.store), os.environ.get(SIGNING_KEY)
    if key:
        require_key(Path(key))
    done = put_on_record(registry, config.name, lora, decision, about, channel=config.channel)
    version = registry.state().version(config.name, done.version)
    if key and version.signature is None:
        registry.sign(version, Path(key), PIPELINE)
    return done


SPEC = StepSpec(
    name="register",
    version="3",
    category="registration",
    config=RegisterConfig,
    run=register,
    inputs={"lora": ArtifactKind.LORA, "decision": ArtifactKind.DECISION, "samples": ArtifactKind.SHARDS},
    outputs={"registration": ArtifactKind.REGISTRATION},
    optional=frozenset({"samples"}),
)
