"""The graph: one definition of which step reads what, for every driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from likeness.core.artifact import ArtifactKind
from likeness.core.pipeline import Node, Pipeline
from likeness.core.registry import Registry
from likeness.orchestration.catalogue import load_step

PIPELINES: Registry[Callable[[], Pipeline]] = Registry("pipeline", builtin=("likeness.orchestration.pipelines",))

MODELS = {
    "base_model": ArtifactKind.MODEL,
    "faces": ArtifactKind.FACE_PACK,
    "judge_faces": ArtifactKind.FACE_PACK,
    "encoder": ArtifactKind.MODEL,
    "oracle": ArtifactKind.MODEL,
}
# What a profile may name under its sources or leave out: a model that writes captions, a classifier of what is not safe
# for work, the `profiles` that check_data wrote of an earlier version of the data.
OPTIONAL = {"captioner_model": ArtifactKind.MODEL, "nsfw": ArtifactKind.MODEL, "previous": ArtifactKind.TABLE}


def load_pipeline(name: str) -> Pipeline:
    """The pipeline of that name, ours or a plug-in's; raises UnknownNameError with suggestions."""
    return PIPELINES.get(name)()


def node(step: str, name: str | None = None, **bind: str) -> Node:
    """A node that runs ``step``; ``bind`` names where each input comes from."""
    return Node(name=name or step, spec=load_step(step), bind=bind)


def _curation(photos: str, words: Mapping[str, str], **consent: str) -> tuple[Node, ...]:
    """``words``: what else ``caption`` reads."""
    return (
        node("ingest", photos=photos),
        node("detect_faces", images="ingest.images", faces="sources.faces", nsfw="sources.nsfw"),
        node("filter_faces", images="ingest.images", detections="detect_faces.detections", **consent),
        node("caption", kept="filter_faces.kept", captioner_model="sources.captioner_model", **words),
        node("split", captioned="caption.captioned", detections="detect_faces.detections"),
        node(
            "data_report",
            kept="filter_faces.kept",
            quarantine="filter_faces.quarantine",
            unread="ingest.quarantine",
        ),
        node(
            "check_data",
            images="ingest.images",
            kept="filter_faces.kept",
            captioned="caption.captioned",
            previous="sources.previous",
            **{part: f"split.{part}" for part in ("train", "references", "evaluation")},
        ),
    )


def _preferences() -> tuple[Node, ...]:
    """The reward model and the held-out judge are one step used twice, on disjoint annotators and pairs."""
    preferences, encoder = "mine_preferences.preferences", "sources.encoder"
    return (
        node(
            "generate_candidates",
            train="split.train",
            base_model="sources.base_model",
            data_docs="check_data.data_docs",  # nothing is drawn from data that break their contract
        ),
        node(
            "mine_preferences",
            candidates="generate_candidates.candidates",
            train="split.train",
            oracle="sources.oracle",
            references="split.references",
            encoder=encoder,
            faces="sources.faces",
        ),
        node("train_reward", preferences=preferences, encoder=encoder),
        node("train_reward", name="train_judge", preferences=preferences, encoder=encoder),
    )


def _alignment() -> tuple[Node, ...]:
    return (
        node(
            "finetune",
            base_model="sources.base_model",
            references="split.references",
            train="split.train",
            reward="train_reward.reward",
            encoder="sources.encoder",
            faces="sources.faces",
            preferences="mine_preferences.preferences",
        ),
        node(
            "evaluate",
            base_model="sources.base_model",
            lora="finetune.lora",
            references="split.references",
            evaluation="split.evaluation",
            train="split.train",
            judge="train_judge.reward",
            encoder="sources.encoder",
            judge_faces="sources.judge_faces",
            oracle="sources.oracle",
            nsfw="sources.nsfw",
        ),
    )


def _release() -> tuple[Node, ...]:
    return (
        node(
            "gate",
            evaluation_result="evaluate.evaluation_result",
            lora="finetune.lora",
            train="split.train",
            references="split.references",
            **{name: f"sources.{name}" for name in MODELS},
        ),
        node("register", lora="finetune.lora", decision="gate.decision", samples="evaluate.samples"),
        node(
            "report",
            train="split.train",
            preferences="mine_preferences.preferences",
            reward="train_reward.reward",
            judge="train_judge.reward",
            lora="finetune.lora",
            evaluation_result="evaluate.evaluation_result",
            samples="evaluate.samples",
            decision="gate.decision",
            registration="register.registration",
            data_docs="check_data.data_docs",
            quarantine="filter_faces.quarantine",
            undescribed="caption.quarantine",
        ),
    )


def portraits() -> Pipeline:
    """The embedded profile: drawn portraits, so that everything runs on two cores and has a known truth."""
    return Pipeline(
        name="portraits",
        summary="Curate drawn portraits, learn a reward, align a LoRA, evaluate, gate and register it.",
        sources={**MODELS, **OPTIONAL},
        optional=frozenset(OPTIONAL),
        nodes=(
            node("render_portraits"),
            *_curation("render_portraits.photos", {}),  # words of few phrases, which every text encoder reads whole
            *_preferences(),
            *_alignment(),
            *_release(),
        ),
    )


def production() -> Pipeline:
    """The same graph on the user's own photographs, of people whose consent is on record."""
    return Pipeline(
        name="production",
        summary="Curate photographs, learn a reward, align a LoRA, evaluate, gate and register it.",
        sources={"photos": ArtifactKind.PHOTOS, "consent": ArtifactKind.CONSENT, **MODELS, **OPTIONAL},
        optional=frozenset(OPTIONAL),
        nodes=(
            *_curation("sources.photos", {"base_model": "sources.base_model"}, consent="sources.consent"),
            *_preferences(),
            *_alignment(),
            *_release(),
        ),
    )


def embedded() -> Pipeline:
    """How the committed models of the portrait domain are made."""
    corpus = "render_corpus.corpus"
    return Pipeline(
        name="embedded",
        summary="Train the embedded models from nothing and export them.",
        sources={},
        nodes=(
            node("render_corpus"),
            node("train_vae", corpus=corpus),
            node("train_generator", corpus=corpus, vae="train_vae.vae"),
            node("train_recogniser", corpus=corpus),
            node("train_recogniser", name="train_judge_recogniser", corpus=corpus),
            node("train_detector", corpus=corpus),
            node("train_dual_encoder", corpus=corpus),
            node("train_oracle", corpus=corpus),
            node(
                "export_embedded",
                corpus=corpus,
                pipeline="train_generator.pipeline",
                detector="train_detector.detector",
                recogniser="train_recogniser.recogniser",
                judge="train_judge_recogniser.recogniser",
                encoder="train_dual_encoder.encoder",
                oracle="train_oracle.oracle",
            ),
        ),
    )


for _build in (portraits, production, embedded):
    PIPELINES.add(_build.__name__, _build, __name__)
