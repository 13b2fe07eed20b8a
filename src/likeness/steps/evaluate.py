"""Step ``evaluate``: the same prompts and seeds from every variant, scored by held-out judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.io import digest_path, read_json, write_json
from likeness.core.step import Metrics, Resources, StepSpec
from likeness.data.scorers.nsfw import NsfwConfig
from likeness.evaluation.looks import check_looks
from likeness.evaluation.prompt_bank import Category
from likeness.evaluation.rules import Demand

if TYPE_CHECKING:
    from likeness.evaluation.distances import SetEstimate
    from likeness.evaluation.evidence import Evidence, Inquiry
    from likeness.evaluation.readings import Judges, Pixels, Request
    from likeness.evaluation.sampling import Sampler
    from likeness.evaluation.sets import Source
    from likeness.evaluation.statistics import Array

    Estimates = Mapping[str, Mapping[str, SetEstimate]]

METRIC_NAMES = (
    "identity",
    "face_detected",
    "prompt_fidelity",
    "text_similarity",
    "image_similarity",
    "aesthetic",
    "structure",
    "diversity",
    "diversity_across",
    "copy_paste",
    "darkness",
    "saturation",
    "edge_density",
    "colour_entropy",
)
SET_METRIC_NAMES = (
    "frechet_base",
    "kid_base",
    "cmmd_base",
    "frechet_photos",
    "kid_photos",
    "cmmd_photos",
    "style_photos",
    "vendi",
    "compute",
    "size",
)
UNSAFE = "unsafe"
NEUTRAL_METRIC_NAMES = ("bias_shift", "bias_evenness")


class EvaluateConfig(Config):
    """``prompts`` x ``seeds`` pictures a variant, by ``steps`` sampler steps.

    ``factors_named``: factors that a prompt names. ``bank``: categories of the prompt bank to ask instead (action,
    style, clothing, environment). ``det_size``: side the judge's detector sees.
    ``sample_prompts``: prompts whose pictures are kept for the report. ``looks``: after so many prompts it stops where
    ``demand`` (the gate's own, for a decision that the gate will share) is met, or has a rule that cannot be met.
    ``set_metrics``: of whole variants, each with ``replicates`` bootstrap replicates. ``neutral_prompts``: asked once
    more without the subject, to see who else is drawn; 0 does not look. ``nsfw``: what of the port ``nsfw`` counts.
    """

    seed: int = 0
    threads: int = Field(default=2, ge=1)
    prompts: int = Field(default=64, ge=3)
    seeds: int = Field(default=2, ge=1)
    looks: tuple[int, ...] = ()
    demand: Demand = Demand()
    steps: int = Field(default=20, ge=1)
    guidance_scale: float = Field(default=3.5, ge=0)
    batch: int = Field(default=16, ge=1)
    factors_named: int = Field(default=3, ge=1)
    bank: tuple[Category, ...] = ()
    det_size: int = Field(default=640, ge=32, multiple_of=32)
    sample_prompts: int = Field(default=12, ge=1)
    resamples: int = Field(default=4000, ge=200)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    metrics: tuple[str, ...] = Field(default=METRIC_NAMES, min_length=1)
    set_metrics: tuple[str, ...] = SET_METRIC_NAMES + NEUTRAL_METRIC_NAMES
    neutral_prompts: int = Field(default=0, ge=0)
    replicates: int = Field(default=200, ge=100)
    nsfw: NsfwConfig = NsfwConfig()

    @model_validator(mode="after")
    def _ascending(self) -> EvaluateConfig:
        check_looks(self.looks, self.prompts)
        return self


def evaluate(
    config: EvaluateConfig,
    base_model: Path,
    lora: Path,
    references: Path,
    evaluation: Path,
    judge: Path,
    encoder: Path,
    judge_faces: Path,
    oracle: Path,
    train: Path | None,
    nsfw: Path | None,
    incumbent: Path | None,
    photographs: Path | None,
    evaluation_result: Path,
    samples: Path,
) -> Metrics:
    """Score base, candidate and incumbent on equal prompts and seeds, with paired bootstrap intervals.

    A picture that is one of ``train`` counts as a copy, as one of the references does. ``nsfw``, a classifier of
    pictures, adds the metric ``unsafe``.
    """
    from likeness.data.scorers.nsfw import unsafe_share
    from likeness.evaluation.evidence import Inquiry
    from likeness.evaluation.prompts import draw_requests
    from likeness.evaluation.readings import Judges, references_of
    from likeness.evaluation.sampling import Sampler
    from likeness.evaluation.seen import Seen
    from likeness.evaluation.sets import measure_sets
    from likeness.models.drawing import Sampling
    from likeness.models.generator import load_pipeline
    from likeness.models.runtime import torch_session

    metrics = _metrics(config, nsfw)
    for tuned in filter(None, (lora, incumbent)):
        _require_held_out(judge_faces, tuned)
    torch_session(config.seed, config.threads)
    seen, held_out = read_pictures(references), read_pictures(evaluation)
    judges = Judges.load(judge, encoder, judge_faces, oracle, config.det_size, config.threads)
    judges.unsafe = None if nsfw is None else unsafe_share(config.nsfw, nsfw, "evaluate.nsfw.labels")
    judges.seen = Seen.of(train, judges) if train is not None else None
    targets = references_of(judges, seen, held_out)
    requests = draw_requests(
        held_out,
        prompts=config.prompts,
        seeds=config.seeds,
        named=config.factors_named,
        seed=config.seed,
        bank=config.bank,
    )
    variants = {"base": None, "candidate": lora} | ({} if incumbent is None else {"incumbent": incumbent})
    sampling = Sampling(config.steps, config.guidance_scale, config.batch)
    sampler = Sampler(load_pipeline(base_model), digest_path(base_model), variants, samples, config.seed, sampling)
    photos = judges.read([row["pixels"] for row in held_out], _captions(held_out), targets)
    looks = check_looks(config.looks, config.prompts)
    inquiry = Inquiry(sampler, judges, targets, photos, metrics, config.demand, looks)
    evidence = inquiry.gather(requests)
    population = judges.features([row["pixels"] for row in read_pictures(photographs)]) if photographs else None
    sources = _sources(config, inquiry, evidence, requests)
    sets = measure_sets(sources, population, config.set_metrics, seed=config.seed, replicates=config.replicates)
    summary = _write_result(evaluation_result, config, evidence, sets, digest_path(lora))
    _write_samples(samples, config, evidence.pictures, evidence.requests, seen)
    means = {f"{name}_{v}": each[v]["mean"] for name, each in summary["metrics"].items() for v in each}
    means |= {f"{name}_{v}": each[v]["value"] for name, each in summary["sets"].items() for v in each}
    means["prompts"] = evidence.look.prompts[evidence.look.index]
    return means | {f"{name}_difference": part["difference"] for name, part in summary["paired"].items()}


def _metrics(config: EvaluateConfig, nsfw: Path | None) -> tuple[str, ...]:
    """What is measured; a misspelt metric, or one that nothing can tell, fails before anything is drawn."""
    from likeness.evaluation.gate import check_directions
    from likeness.evaluation.metrics import METRICS
    from likeness.evaluation.sets import SET_METRICS

    check_directions(config.demand.rules)
    for name in config.metrics:
        METRICS.get(name)
    for name in config.set_metrics:
        SET_METRICS.get(name)
    if nsfw is None and UNSAFE in config.metrics:
        raise InputError(f"nothing tells evaluate what is {UNSAFE}", remedy="bind a classifier to its port nsfw")
    return config.metrics + (() if nsfw is None or UNSAFE in config.metrics else (UNSAFE,))


def _sources(
    config: EvaluateConfig, inquiry: Inquiry, evidence: Evidence, requests: Sequence[Request]
) -> dict[Source, Mapping[str, Array]]:
    """What the set metrics that are asked for look at, of each variant."""
    from likeness.evaluation.footprint import footprints
    from likeness.evaluation.sets import SET_METRICS

    looked_at = {SET_METRICS.get(name).of for name in config.set_metrics}
    sources: dict[Source, Mapping[str, Array]] = {}
    if "pictures" in looked_at:
        sources["pictures"] = {variant: readings.features for variant, readings in evidence.readings.items()}
    if "model" in looked_at:
        sources["model"] = footprints(inquiry.sampler, requests[0])
    neutral = requests[:: config.seeds][: config.neutral_prompts]
    if "people" in looked_at and neutral:
        sources["people"] = _people(inquiry.sampler, inquiry.judges, neutral)
    return sources


def _people(sampler: Sampler, judges: Judges, requests: Sequence[Request]) -> dict[str, Array]:
    """The faces in each variant's pictures for the prompts' words without their subject."""
    asked = [replace(request, prompt=request.words or request.prompt) for request in requests]
    drawn = replace(sampler, kept=sampler.kept / "neutral").draw(asked)
    return {variant: judges.embed_faces(pictures) for variant, pictures in drawn.items()}


def _write_result(
    folder: Path, config: EvaluateConfig, evidence: Evidence, sets: Estimates, candidate: str
) -> dict[str, Any]:
    """The table of scores, the sets' metrics, and the summary of both, which is returned."""
    from likeness.evaluation.scores import SUMMARY, Scores, write_scores
    from likeness.evaluation.sets import summarise_sets, write_sets
    from likeness.evaluation.suite import summarise

    write_scores(folder, evidence.rows)
    write_sets(folder, sets)
    scores = Scores.from_rows(evidence.rows)
    summary = summarise(scores, seed=config.seed, resamples=config.resamples, confidence=config.confidence)
    summary |= {
        "sets": summarise_sets(sets, config.confidence),
        "looks": evidence.record,
        "candidate_digest": candidate,
    }
    write_json(folder / SUMMARY, summary)
    return summary


def _require_held_out(judge_faces: Path, lora: Path) -> None:
    """Raises:
    InputError: the recogniser that judges likeness is the one that rewarded it, and would flatter what it taught.
    """
    from likeness.models.faces.pack import recogniser_digest

    record = lora / "training.json"
    rewarded = read_json(record).get("reward_recogniser") if record.is_file() else None
    if rewarded == recogniser_digest(judge_faces):
        raise InputError(
            f"the recogniser of {judge_faces} cannot judge {lora}, which was trained on its reward",
            remedy="bind a pack with another recogniser to judge_faces",
        )


def read_pictures(folder: Path) -> list[dict[str, Any]]:
    """Rows with their decoded ``pixels``."""
    from likeness.data.images import decode
    from likeness.data.shards import iter_rows

    return [{**row, "pixels": decode(row["image"])} for row in iter_rows(folder)]


def _captions(rows: Sequence[Mapping[str, Any]]) -> list[Request]:
    from likeness.data.captions import without_token
    from likeness.evaluation.readings import Request

    return [
        Request(str(row["caption"]), str(row["subject"]), i, words=without_token(row["caption"], row["token"]))
        for i, row in enumerate(rows)
    ]


def _write_samples(
    folder: Path,
    config: EvaluateConfig,
    pictures: Mapping[str, Sequence[Pixels]],
    requests: Sequence[Request],
    seen: Sequence[Mapping[str, Any]],
) -> None:
    """The first prompts' pictures of every variant, and each subject's references, as shards for the report."""
    from likeness.data.images import encode_png
    from likeness.data.shards import write_shards

    def row(variant: str, pixels: Pixels, prompt: str, subject: str, index: int, seed: int) -> dict[str, Any]:
        about = {"variant": variant, "subject": subject, "prompt": prompt, "prompt_index": index, "seed_index": seed}
        return {"image": encode_png(pixels), **about}

    kept = [
        row(variant, drawn[i], request.prompt, request.subject, request.index, request.seed)
        for variant, drawn in pictures.items()
        for i, request in enumerate(requests)
        if request.index < config.sample_prompts
    ]
    numbered = enumerate(seen)
    kept += [row("reference", r["pixels"], str(r["caption"]), str(r["subject"]), i, 0) for i, r in numbered]
    write_shards(folder, kept)


SPEC = StepSpec(
    name="evaluate",
    version="8",
    category="evaluation",
    config=EvaluateConfig,
    run=evaluate,
    inputs={
        "base_model": ArtifactKind.MODEL,
        "lora": ArtifactKind.LORA,
        "references": ArtifactKind.SHARDS,
        "evaluation": ArtifactKind.SHARDS,
        "judge": ArtifactKind.MODEL,
        "encoder": ArtifactKind.MODEL,
        "judge_faces": ArtifactKind.FACE_PACK,
        "oracle": ArtifactKind.MODEL,
        "train": ArtifactKind.SHARDS,
        "nsfw": ArtifactKind.MODEL,
        "incumbent": ArtifactKind.LORA,
        "photographs": ArtifactKind.SHARDS,
    },
    outputs={"evaluation_result": ArtifactKind.EVALUATION, "samples": ArtifactKind.SHARDS},
    optional=frozenset({"train", "nsfw", "incumbent", "photographs"}),
    resources=Resources(cpu=2, memory_gb=8, gpu=1),
    resumable=True,
)
