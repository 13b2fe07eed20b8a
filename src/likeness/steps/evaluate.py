"""Step ``evaluate``: the same prompts and seeds from every variant, scored by judges that trained none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.io import digest_path, read_json, write_json
from likeness.core.step import Metrics, Resources, StepSpec
from likeness.evaluation.prompt_bank import Category

if TYPE_CHECKING:
    from likeness.evaluation.readings import Pixels, Request

METRIC_NAMES = (
    "identity",
    "face_detected",
    "prompt_fidelity",
    "text_similarity",
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


class EvaluateConfig(Config):
    """``prompts`` x ``seeds`` pictures a variant, by ``steps`` sampler steps.

    ``factors_named``: factors that a prompt names. ``bank``: categories of the prompt bank to ask instead (action,
    style, clothing, environment). ``det_size``: side the judge's detector sees.
    ``sample_prompts``: prompts whose pictures are kept for the report.
    """

    seed: int = 0
    threads: int = Field(default=2, ge=1)
    prompts: int = Field(default=64, ge=3)
    seeds: int = Field(default=2, ge=1)
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
    incumbent: Path | None,
    evaluation_result: Path,
    samples: Path,
) -> Metrics:
    """Score base, candidate and incumbent on equal prompts and seeds, with paired bootstrap intervals."""
    from likeness.evaluation.metrics import METRICS
    from likeness.evaluation.prompts import draw_requests
    from likeness.evaluation.readings import Judges, references_of
    from likeness.evaluation.scores import SUMMARY, Scores, write_scores
    from likeness.evaluation.suite import score_rows, summarise
    from likeness.models.runtime import torch_session

    for name in config.metrics:
        METRICS.get(name)  # a misspelt metric fails before anything is drawn
    for tuned in filter(None, (lora, incumbent)):
        _require_held_out(judge_faces, tuned)
    torch_session(config.seed, config.threads)
    seen, held_out = read_pictures(references), read_pictures(evaluation)
    judges = Judges.load(judge, encoder, judge_faces, oracle, config.det_size, config.threads)
    targets = references_of(judges, seen, held_out)
    requests = draw_requests(
        held_out,
        prompts=config.prompts,
        seeds=config.seeds,
        named=config.factors_named,
        seed=config.seed,
        bank=config.bank,
    )
    variants = {"base": None, "candidate": lora, "incumbent": incumbent}
    pictures = _draw(config, base_model, variants, requests, samples)
    readings = {variant: judges.read(drawn, requests, targets) for variant, drawn in pictures.items()}
    photos = judges.read([row["pixels"] for row in held_out], _captions(held_out), targets)
    rows = score_rows(readings, photos, config.metrics)
    write_scores(evaluation_result, rows)
    summary = summarise(
        Scores.from_rows(rows), seed=config.seed, resamples=config.resamples, confidence=config.confidence
    )
    write_json(evaluation_result / SUMMARY, {**summary, "candidate_digest": digest_path(lora)})
    _write_samples(samples, config, pictures, requests, seen)
    means = {f"{name}_{v}": each[v]["mean"] for name, each in summary["metrics"].items() for v in each}
    return means | {f"{name}_difference": part["difference"] for name, part in summary["paired"].items()}


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


def _draw(
    config: EvaluateConfig,
    base_model: Path,
    variants: Mapping[str, Path | None],
    requests: Sequence[Request],
    samples: Path,
) -> dict[str, list[Pixels]]:
    """Pictures (H, W, 3) uint8 of each variant, one a request; a variant without a LoRA is the base, or absent."""
    from tqdm import tqdm

    from likeness.evaluation.prompts import noise_seeds
    from likeness.models.drawing import draw
    from likeness.models.generator import load_pipeline
    from likeness.models.policy import tuned
    from likeness.models.subjects import Subjects

    pipeline = load_pipeline(base_model)
    prompts, seeds = [request.prompt for request in requests], noise_seeds(requests, config.seed)
    out: dict[str, list[Pixels]] = {}
    wanted = {name: lora for name, lora in variants.items() if lora is not None or name == "base"}
    for name, lora in wanted.items():
        subjects = Subjects.load(lora) if lora is not None else None
        with tuned(pipeline, lora) if lora is not None else nullcontext():
            drawn = draw(
                pipeline,
                prompts,
                seeds,
                samples / name,
                steps=config.steps,
                guidance_scale=config.guidance_scale,
                batch=config.batch,
                faces=subjects.of(prompts) if subjects else None,
            )
            out[name] = list(tqdm(drawn, f"evaluate {name}", len(requests), unit="picture"))
    return out


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
    version="3",
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
        "incumbent": ArtifactKind.LORA,
    },
    outputs={"evaluation_result": ArtifactKind.EVALUATION, "samples": ArtifactKind.SHARDS},
    optional=frozenset({"incumbent"}),
    resources=Resources(cpu=2, memory_gb=8, gpu=1),
    resumable=True,
)
