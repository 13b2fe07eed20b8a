"""Step ``finetune``: personalise and align a LoRA by the recipe named in params."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from likeness.core.artifact import ArtifactKind
from likeness.core.errors import InputError
from likeness.core.io import write_json, write_text
from likeness.core.step import Metrics, Resources, StepSpec, is_helper
from likeness.models.adapters.base import ADAPTERS
from likeness.training.plan import RECIPES, Plan, override
from likeness.training.tracking import ENVIRONMENT, Run, Tracking, open_tracking

if TYPE_CHECKING:
    from likeness.training.bench import Bench, Material
    from likeness.training.samples import GridSampler
    from likeness.training.trainer import Trainer


class FinetuneConfig(Plan):
    """The recipe's settings, any of which may be overridden here. ``det_size``: side the face detector sees."""

    recipe: str = "id_aligner_lora"
    seed: int = 0
    threads: int = Field(2, ge=1)
    det_size: int = Field(640, gt=0)
    sample_prompts: int = Field(4, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _settings_of_the_recipe(cls, data: Any) -> Any:
        """Fill what params leave out from the recipe, so that lineage records every value that was used."""
        if not isinstance(data, dict):
            return data
        name = data.get("recipe", cls.model_fields["recipe"].default)
        return override(RECIPES.get(name).settings, data)


def finetune(
    config: FinetuneConfig,
    base_model: Path,
    references: Path,
    train: Path,
    reward: Path,
    encoder: Path,
    faces: Path,
    preferences: Path | None,
    small_decoder: Path | None,
    lora: Path,
) -> Metrics:
    """Train an adapter with the recipe's losses on references, rewards and preference pairs.

    Rewards look at pictures that ``small_decoder`` decodes, a fraction of the work of the base model's VAE; validations
    and sample grids are drawn by the whole pipeline.
    """
    from likeness.models.adapters.image_prompt import sized
    from likeness.models.generator import load_pipeline, load_small_decoder
    from likeness.models.policy import make_policy
    from likeness.models.runtime import torch_session
    from likeness.rewards.compose import RewardAssets
    from likeness.training.bench import Bench
    from likeness.training.trainer import Trainer

    tracking = _tracking(config, lora)
    material = _read(references, train, preferences)
    torch_session(config.seed, config.threads)
    pipeline = load_pipeline(base_model)
    assets = RewardAssets(reward=reward, encoder=encoder, faces=faces, det_size=config.det_size)
    adapters = sized(config.adapters(), lambda: assets.embedding_size)
    policy = make_policy(pipeline, adapters, config.seed, gradient_checkpointing=config.gradient_checkpointing)
    if small_decoder is not None:
        policy.small_decoder = load_small_decoder(small_decoder, pipeline)
    bench = Bench(config, config.seed, policy, material, assets)
    validate = bench.validator() if config.validation.every else None
    trainer = Trainer(policy, bench.algorithm(), config, config.seed, lora, validate)
    grids = _grids(config, bench, lora)
    with tracking:
        trainer.run(partial(_observe, trainer, grids, tracking), tracking)
    policy.shrink(config.keep_update)
    if not trainer.world.is_main:
        return {"steps": trainer.step}
    policy.save(lora)
    if bench.subjects is not None:
        bench.subjects.save(lora)
    return _record(config, trainer, faces, lora)


def _tracking(config: FinetuneConfig, lora: Path) -> Tracking:
    """The trackers that the environment asks for; none in a helper, which may be here before the output has a key."""
    if is_helper():
        return Tracking()
    return open_tracking(os.environ.get(ENVIRONMENT, ""), Run.of(config.recipe, config, lora))


def _observe(trainer: Trainer, grids: GridSampler, tracking: Tracking, step: int) -> None:
    """Draw a grid in every process that the trainer asks; the main one alone writes it."""
    images = grids.draw()
    if trainer.world.is_main:
        tracking.picture(step, grids.write(step, images))


def _read(references: Path, train: Path, preferences: Path | None) -> Material:
    from likeness.data.shards import read_rows
    from likeness.training.bench import Material

    material = Material(
        references=read_rows(references, ["image", "caption", "subject", "token"]),
        train=read_rows(train, ["image", "caption", "subject_caption"]),
        preferences=preferences,
    )
    if not material.references:
        raise InputError(f"{references} holds no reference images", remedy="raise references_per_subject in split")
    return material


def _grids(config: FinetuneConfig, bench: Bench, lora: Path) -> GridSampler:
    from likeness.training.prompts import rollout_prompts
    from likeness.training.samples import GridSampler

    material, situations = bench.material, [str(row["subject_caption"]) for row in bench.material.train]
    prompts, _ = rollout_prompts(material.references, situations, config.sample_prompts, config.seed)
    return GridSampler(
        bench.policy.pipeline,
        prompts,
        columns=4,
        steps=config.sample_steps,
        guidance=config.sample_guidance,
        seed=config.seed,
        folder=lora / "samples",
        subjects=bench.subjects,
    )


def _record(config: FinetuneConfig, trainer: Trainer, faces: Path, lora: Path) -> Metrics:
    from likeness.models.faces.pack import recogniser_digest

    counts, history = trainer.policy.counts.as_dict(), trainer.history
    write_json(
        lora / "training.json",
        {
            "recipe": config.recipe,
            "config": config.model_dump(mode="json"),
            "small_decoder": trainer.policy.small_decoder is not None,
            "counts": counts,
            "cost": _cost(config, trainer),
            # evaluate refuses to judge by what rewarded
            "reward_recogniser": recogniser_digest(faces) if "identity" in config.rewards else None,
            "curves": {"step": list(range(1, trainer.step + 1)), **history.curves},
            "validations": trainer.watch.records,
            "stopped": trainer.stopped,
            "kept": trainer.kept,
        },
    )
    write_text(lora / "README.md", _card(config, trainer))
    final = {name.replace("/", "_"): history.recent(name) for name in sorted(history.curves)}
    cost = {"tflop_per_sample": trainer.costs.tflop_per_sample}
    return {"steps": trainer.step, "kept": trainer.kept, **counts, **cost, **final}


def _cost(config: FinetuneConfig, trainer: Trainer) -> dict[str, Any]:
    """Operations in 10^12, of all processes; what each trained reward gained for them."""
    sample, history = trainer.costs.tflop_per_sample, trainer.history
    run = sample * config.batch * trainer.step
    gained = {name: history.gained(f"reward/{name}") for name in config.rewards if f"reward/{name}" in history.curves}
    return {
        "tflop_per_sample": sample,
        "tflop": run,
        "reward_gained_per_tflop": {name: value / run for name, value in gained.items()},
    }


def _gains(config: FinetuneConfig, trainer: Trainer) -> str:
    gained = _cost(config, trainer)["reward_gained_per_tflop"]
    return ", ".join(f"{name} gained {value:.3g} a TFLOP" for name, value in gained.items()) or "no reward was trained"


def _card(config: FinetuneConfig, trainer: Trainer) -> str:
    counts = trainer.policy.counts.as_dict()
    ended = f"stopped early: {trainer.stopped}" if trainer.stopped else "ran to its end"
    recipe = RECIPES.get(config.recipe)
    paper = f"{recipe.paper.title} (arXiv:{recipe.paper.arxiv})" if recipe.paper else "none"
    lines = [
        "---",
        "library_name: diffusers",
        f"tags: [{', '.join([*config.trainable, 'text-to-image'])}]",
        "---",
        f"# {' and '.join(config.trainable)} by the recipe `{config.recipe}`",
        "",
        f"{recipe.summary[:1].upper()}{recipe.summary[1:]}. Paper: {paper}. Status: {recipe.status}.",
        "",
        f"Trained: {', '.join(config.trainable)}; {trainer.step} steps of {config.batch} samples, learning rate "
        f"{config.learning_rate:g}, seed {config.seed}; {ended}; weights of step {trainer.kept}.",
        f"Cost in samples: {', '.join(f'{value} {name}' for name, value in counts.items())}.".replace("_", " "),
        f"Cost in operations: {trainer.costs.tflop_per_sample:.3g} TFLOP a gradient sample; {_gains(config, trainer)}.",
        "",
        "Load it with plain diffusers:",
        "",
        "```python",
        *(ADAPTERS.get(name).plain for name in sorted(config.trainable)),
        "```",
        "",
    ]
    return "\n".join(lines)


SPEC = StepSpec(
    name="finetune",
    version="7",
    category="alignment",
    config=FinetuneConfig,
    run=finetune,
    inputs={
        "base_model": ArtifactKind.MODEL,
        "references": ArtifactKind.SHARDS,
        "train": ArtifactKind.SHARDS,
        "reward": ArtifactKind.MODEL,
        "encoder": ArtifactKind.MODEL,
        "faces": ArtifactKind.FACE_PACK,
        "preferences": ArtifactKind.PREFERENCES,
        "small_decoder": ArtifactKind.MODEL,
    },
    outputs={"lora": ArtifactKind.LORA},
    optional=frozenset({"preferences", "small_decoder"}),
    resources=Resources(cpu=2, memory_gb=8, gpu=1),
    resumable=True,
    parallel=True,
)
