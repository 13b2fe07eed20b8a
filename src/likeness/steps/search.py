"""Step ``search``: at inference, look for the starting noise of each prompt's picture that the rewards like best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config, parse_config
from likeness.core.errors import ConfigError, InputError
from likeness.core.io import atomic_output, digest_bytes, incomplete
from likeness.core.seeds import derive_seed
from likeness.core.step import Metrics, Resources, StepSpec
from likeness.search.base import SEARCHES
from likeness.training.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.subjects import Subjects
    from likeness.rewards.base import Conditions
    from likeness.training.bench import Bench

SHEET = "sheet.png"


class SearchConfig(Config):
    """``prompts``: what is asked, subjects by their tokens. ``search``: one of the plug-point, with its settings.
    ``rewards`` and ``composition`` as in ``finetune``. ``det_size``: side the face detector sees.

    Pictures are drawn without guidance, as in training; each prompt has noises of its own, so that adding another
    changes none of the pictures found before.
    """

    prompts: tuple[str, ...] = ("a portrait of sks person",)
    search: Mapping[str, Mapping[str, Any]] = Field(default={"best_of_n": {"n": 16}}, validate_default=True)
    rewards: Mapping[str, Annotated[float, Field(gt=0)]] = Field(default={"identity": 1.0}, min_length=1)
    composition: Mapping[str, Mapping[str, Any]] = Field(default={"weighted": {}}, validate_default=True)
    seed: int = 0
    threads: int = Field(2, ge=1)
    det_size: int = Field(640, gt=0)

    @field_validator("prompts")
    @classmethod
    def _asks_for_something(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(prompt.strip() for prompt in value):
            raise ConfigError("search has no prompt, or an empty one", remedy="name what to draw under prompts")
        return value

    @field_validator("search", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {value: {}} if isinstance(value, str) else value

    @field_validator("search")
    @classmethod
    def _fill_search(cls, value: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        if len(value) != 1:
            raise ConfigError(f"search names {sorted(value)}", remedy=f"name exactly one of {', '.join(SEARCHES)}")
        return {
            name: parse_config(SEARCHES.get(name).config, given or {}, f"search.{name}").model_dump(mode="json")
            for name, given in value.items()
        }

    @model_validator(mode="after")
    def _rewards_compose(self) -> Self:
        self.plan()
        return self

    def plan(self) -> Plan:
        """Rewards and composition, checked as a fine-tuning run's are."""
        return Plan.model_validate({"rewards": self.rewards, "composition": self.composition})


@dataclass(frozen=True)
class Hit:
    """``pixels``: (2, H, W, 3) uint8, the first picture and the best; ``trace``: (N,) best reward so far."""

    pixels: Any
    trace: Any
    counts: Mapping[str, int]


def search(
    config: SearchConfig,
    base_model: Path,
    references: Path,
    reward: Path,
    encoder: Path,
    faces: Path,
    lora: Path | None,
    pictures: Path,
) -> Metrics:
    """Write each prompt's best picture as shards, and a sheet with each beside the first that was drawn."""
    from contextlib import nullcontext

    from tqdm import tqdm

    from likeness.data.shards import read_rows, write_shards
    from likeness.models.generator import load_pipeline
    from likeness.models.policy import make_policy, tuned
    from likeness.models.runtime import torch_session
    from likeness.models.subjects import Subjects
    from likeness.rewards.compose import RewardAssets
    from likeness.training.bench import Bench, Material

    rows = read_rows(references, ["image", "caption", "subject", "token"])
    torch_session(config.seed, config.threads)
    pipeline = load_pipeline(base_model)
    assets = RewardAssets(reward=reward, encoder=encoder, faces=faces, det_size=config.det_size)
    with tuned(pipeline, lora) if lora is not None else nullcontext():
        bench = Bench(config.plan(), config.seed, make_policy(pipeline, {}, config.seed), Material(rows, []), assets)
        shown = Subjects.load(lora) if lora is not None else None
        told = [_told(bench, text) for text in config.prompts]
        hits = [
            _kept(config, bench, shown, i, one, pictures) for i, one in enumerate(tqdm(told, "search", unit="prompt"))
        ]
    found = [_row(prompt, hit) for prompt, hit in zip(config.prompts, hits, strict=True)]
    write_shards(pictures, found)
    _write_sheet(pictures / SHEET, hits)
    spent = {name: sum(hit.counts[name] for hit in hits) for name in hits[0].counts}
    means = {name: sum(row[name] for row in found) / len(found) for name in ("reward_first", "reward")}
    return {"prompts": len(found), **means, **spent}


def _row(prompt: str, hit: Hit) -> dict[str, Any]:
    from likeness.data.images import encode_png

    image, looked = encode_png(hit.pixels[1]), len(hit.trace)
    rewards = {"reward_first": float(hit.trace[0]), "reward": float(hit.trace[-1])}
    return {"image": image, "id": digest_bytes(image["bytes"])[:16], "prompt": prompt, **rewards, "looked_at": looked}


def _kept(
    config: SearchConfig, bench: Bench, shown: Subjects | None, number: int, told: Conditions, pictures: Path
) -> Hit:
    """The hit for one prompt, which outlives a kill."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    file = incomplete(pictures / "searched") / f"{number:06d}.safetensors"
    if not file.is_file():
        hit = _search(config, bench, shown, number, told)
        counts = {name: np.array(value) for name, value in hit.counts.items()}
        with atomic_output(file, folder=False) as temporary:
            save_file({"pixels": hit.pixels, "trace": hit.trace, **counts}, temporary)
    stored = load_file(file)
    pixels, trace = stored.pop("pixels"), stored.pop("trace")
    return Hit(pixels, trace, {name: int(value) for name, value in stored.items()})


def _search(config: SearchConfig, bench: Bench, shown: Subjects | None, number: int, told: Conditions) -> Hit:
    import numpy as np

    from likeness.models.generator import pixels_of

    policy, text = bench.policy, config.prompts[number]
    prompts = policy.prompts([text])
    if shown is not None:
        prompts = replace(prompts, faces=shown.of([text]))
    seed = derive_seed(config.seed, "search", text, config.prompts[:number].count(text))
    ((name, settings),) = config.search.items()
    chosen = SEARCHES.get(name)
    found = chosen.run(policy, prompts, told, bench.terms, chosen.config.model_validate(settings), seed)
    pixels = np.concatenate([pixels_of(found.first), pixels_of(found.images)])
    return Hit(pixels, found.trace[0].double().numpy(), found.counts.as_dict())


def _told(bench: Bench, text: str) -> Conditions:
    """What the rewards are told: the words without the token, and the face of whom the prompt names.

    Raises:
        InputError: a reward compares with a person, and the prompt names none.
    """
    from likeness.data.captions import without_token
    from likeness.models.subjects import Subjects
    from likeness.rewards.base import Conditions
    from likeness.training.prompts import subject_tokens

    tokens = subject_tokens(bench.material.references)
    words = text
    for token in tokens.values():
        words = without_token(words, token)
    if not any(reward.needs_references for _, reward in bench.terms.rewards.values()):
        return Conditions((words,), None)
    face: Tensor = Subjects({token: bench.means[subject] for subject, token in tokens.items()}).of([text])
    if not face.any():
        raise InputError(
            f"the prompt '{text}' names none of the subjects' tokens ({', '.join(tokens.values())})",
            remedy="name one, or leave out the rewards that compare with a person",
        )
    return Conditions((words,), face)


def _write_sheet(file: Path, hits: list[Hit]) -> None:
    """A row for each prompt: the first picture, the best."""
    import numpy as np
    import torch

    from likeness.training.samples import write_grid

    pixels = torch.from_numpy(np.concatenate([hit.pixels for hit in hits]))
    write_grid(file, pixels.permute(0, 3, 1, 2).float() / 255, columns=2)


SPEC = StepSpec(
    name="search",
    version="1",
    category="alignment",
    config=SearchConfig,
    run=search,
    inputs={
        "base_model": ArtifactKind.MODEL,
        "references": ArtifactKind.SHARDS,
        "reward": ArtifactKind.MODEL,
        "encoder": ArtifactKind.MODEL,
        "faces": ArtifactKind.FACE_PACK,
        "lora": ArtifactKind.LORA,
    },
    outputs={"pictures": ArtifactKind.SHARDS},
    optional=frozenset({"lora"}),
    resources=Resources(cpu=2, memory_gb=8, gpu=1),
    resumable=True,
)
