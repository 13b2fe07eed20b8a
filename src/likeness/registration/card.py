"""The model card of a registered version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from likeness.registration.decision import Decision

CARD = "MODEL_CARD.md"


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


def model_card(name: str, decision: Decision, licences: Mapping[str, str], lineage: Mapping[str, Any] | None) -> str:
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
