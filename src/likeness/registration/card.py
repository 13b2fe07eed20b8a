"""The model card of a registered version."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from likeness.core.artifact import read_lineage
from likeness.core.errors import InputError
from likeness.registration.decision import Decision

CARD = "MODEL_CARD.md"
SHEET = "before_after.png"
_SHOWN, _SIDE = 6, 256


@dataclass(frozen=True)
class About:
    """What a card tells that the gate does not know.

    ``licences``: of what the model is made of. ``samples``: what ``evaluate`` drew, of which a few are shown.
    """

    licences: Mapping[str, str] = field(default_factory=dict)
    samples: Path | None = None


@dataclass(frozen=True)
class Sheet:
    """``content``: a PNG, the base model's pictures above the model's own of equal ``prompts`` and seeds."""

    content: bytes
    prompts: Sequence[str]

    @classmethod
    def of(cls, samples: Path, candidate: str) -> Sheet:
        """The first prompts' first pictures. Photographs of the subjects are never among them.

        Raises:
            InputError: the pictures are another model's than ``candidate``, a digest, or there are none.
        """
        from PIL import Image

        from likeness.data.images import decode
        from likeness.data.shards import iter_rows

        _require_of(samples, candidate)
        shown: dict[tuple[int, str], dict[str, Any]] = {}
        for row in iter_rows(samples, ["variant", "prompt", "prompt_index", "image"]):
            if row["variant"] in ("base", "candidate"):
                shown.setdefault((row["prompt_index"], str(row["prompt"])), {}).setdefault(row["variant"], row["image"])
        pairs = [pair for pair in sorted(shown.items(), key=lambda item: item[0][0]) if len(pair[1]) == 2][:_SHOWN]
        if not pairs:
            raise InputError(f"{samples} has no prompt that both models drew", remedy="bind the samples of evaluate")
        sheet = Image.new("RGB", (_SIDE * len(pairs), 2 * _SIDE), "white")
        for column, (_, pair) in enumerate(pairs):
            for line, variant in enumerate(("base", "candidate")):
                picture = Image.fromarray(decode(pair[variant]))
                scale = _SIDE / max(picture.size)
                size = [max(1, round(side * scale)) for side in picture.size]
                sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), (column * _SIDE, line * _SIDE))
        stream = io.BytesIO()
        sheet.save(stream, "PNG", optimize=True)
        return cls(stream.getvalue(), [prompt for (_, prompt), _ in pairs])

    def lines(self) -> list[str]:
        """Of the card."""
        asked = [f"{number}. {' '.join(prompt.split())}" for number, prompt in enumerate(self.prompts, 1)]
        alt = "Synthetic pictures: the base model's above, this model's below"
        return ["## Before and after", "", f"![{alt}]({SHEET})", "", f"{alt}, at equal seeds, of", "", *asked, ""]


def _require_of(samples: Path, candidate: str) -> None:
    """Pictures that no step wrote are taken at their word."""
    lineage = read_lineage(samples)
    run = lineage["nodes"].get(lineage["self"]) if lineage else None
    drew = run["inputs"].get("lora", {}).get("digest") if run else candidate
    if drew != candidate:
        raise InputError(
            f"the pictures in {samples} are of another model, {str(drew)[:12]}, than the one to register, "
            f"{candidate[:12]}",
            remedy="bind the samples of the evaluation that the gate decided on",
        )


def licence_lines(decision: Mapping[str, Any], licences: Mapping[str, str]) -> list[str]:
    """One line per part that the gate ruled on in ``decision``, then those of ``licences``, sorted."""
    lines = [
        f"- {part['name']}{_pictures(part['count'])}: {part['label'] or 'none stated'} "
        f"({_granted(part)}); {part['reason']}"
        for part in decision.get("licences", ())
    ]
    lines += [f"- {what}: {licence}" for what, licence in sorted(licences.items())]
    return lines or ["- none recorded"]


def _pictures(count: int | None) -> str:
    return "" if count is None else f" ({count})"


def _granted(part: Mapping[str, Any]) -> str:
    return f"by {part['by']}" if part["granted"] else "label known, provenance unknown" if part["label"] else "unknown"


def lineage_lines(lineage: Mapping[str, Any] | None) -> list[str]:
    """One line per step that led here, from a ``_lineage.json``."""
    if lineage is None:
        return ["- not recorded"]
    nodes = lineage["nodes"]
    return sorted(f"- {node['step']} (version {node['version']}): `{key[:12]}`" for key, node in nodes.items())


def _header(name: str, decision: Decision) -> str:
    """Hugging Face's metadata, with the gate's figures as evaluation results and the pictures marked as synthetic."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type="likeness-evaluation",
            dataset_name="people held out of the training",
            metric_type=str(reason["metric"]),
            metric_name=str(reason["rule"]),
            metric_value=reason["value"],
        )
        for reason in decision.reasons
        if {"metric", "rule"} <= set(reason)
    ]
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["lora", "personalisation", "identity-preserving", "synthetic-images"],
        license="other",
        license_name="see-licences-below",
        model_name=name if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def model_card(
    name: str,
    decision: Decision,
    licences: Mapping[str, str],
    lineage: Mapping[str, Any] | None,
    sheet: Sheet | None = None,
) -> str:
    """The card as Markdown with the Hugging Face header; the same inputs give the same text."""
    verdicts = [f"- {'pass' if r['passed'] else 'FAIL'}: {r['text']}" for r in decision.reasons]
    lines = [
        "---",
        _header(name, decision),
        "---",
        f"# {name}",
        "",
        f"A LoRA adapter, digest `{decision.candidate_digest}`. It loads with plain diffusers:",
        "",
        "```python",
        'pipeline.load_lora_weights(folder, weight_name="pytorch_lora_weights.safetensors")',
        "```",
        "",
        "## Intended use",
        "",
        "Pictures of the subjects it was tuned on, with their consent. Its pictures are synthetic: label them so.",
        "",
        *(sheet.lines() if sheet else ()),
        f"## The gate's decision, against the {decision.record.get('baseline', 'base')}",
        "",
        *verdicts,
        "",
        "## Licences",
        "",
        f"Judged for {decision.record.get('use', 'research')} use.",
        "",
        *licence_lines(decision.record, licences),
        "",
        "## Lineage",
        "",
        *lineage_lines(lineage),
    ]
    return "\n".join(lines) + "\n"
