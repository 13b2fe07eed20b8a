"""The embedded domain as a testbed for papers' claims: one seed's people, rewards and judges, and runs on them.

A run is the library's own: `Bench`, `Trainer` and whatever `losses:` name. What is watched along it are judges that
train nothing: recogniser B for identity, the oracle for prompt fidelity and for the annotators' true taste.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from variants import seeded

from likeness.core.io import canonical_json, digest_bytes, write_json
from likeness.data.shards import read_rows
from likeness.evaluation.metrics import METRICS
from likeness.evaluation.prompts import draw_requests, noise_seeds
from likeness.evaluation.readings import Judges, references_of
from likeness.models.generator import generate, load_pipeline, pixels_of
from likeness.models.policy import Policy, make_policy
from likeness.models.runtime import torch_session
from likeness.orchestration.drivers import plan_of
from likeness.orchestration.plan import Plan
from likeness.preferences.annotators import TASTE
from likeness.preferences.attributes import SHARPNESS
from likeness.rewards.compose import RewardAssets
from likeness.search.base import SEARCHES, Found
from likeness.steps.evaluate import read_pictures
from likeness.steps.finetune import FinetuneConfig
from likeness.training.bench import Bench, Material
from likeness.training.trainer import Trainer

if TYPE_CHECKING:
    from torch import Tensor

NODES = (
    "render_portraits",
    "ingest",
    "detect_faces",
    "filter_faces",
    "caption",
    "split",
    "check_data",
    "generate_candidates",
    "mine_preferences",
    "train_reward",
    "train_judge",
)
Record = dict[str, float]


@dataclass(frozen=True)
class Testbed:
    """``plan``: the portraits pipeline at one seed, its nodes up to the judge's training done."""

    plan: Plan
    seed: int

    @classmethod
    def build(cls, seed: int, root: Path) -> Testbed:
        """Run what is not there yet; ``root`` keeps it for the next claim."""
        plan = seeded(plan_of("portraits", None, None), seed, root / str(seed))
        for name in NODES:
            plan.run(plan.pipeline.node(name))
        return cls(plan, seed)

    def path(self, node: str, port: str) -> Path:
        """An artefact of the pipeline."""
        return self.plan.pipeline.output_path(self.plan.root, self.plan.pipeline.node(node), port)

    @cached_property
    def material(self) -> Material:
        """References of the subject and pictures of everyone else."""
        return Material(
            references=read_rows(self.path("split", "references"), ["image", "caption", "subject", "token"]),
            train=read_rows(self.path("split", "train"), ["image", "caption", "subject_caption"]),
        )

    @cached_property
    def assets(self) -> RewardAssets:
        """The proxy rewards: recogniser A, the dual encoder, heads trained on few noisy votes."""
        sources = self.plan.sources
        return RewardAssets(self.path("train_reward", "reward"), sources["encoder"], sources["faces"], det_size=64)

    @cached_property
    def eyes(self) -> Eyes:
        """What watches."""
        return Eyes(self)

    def run(
        self, name: str, settings: Mapping[str, Any], *, every: int, watch: Sequence[str], eyes: Eyes | None = None
    ) -> list[Record]:
        """Train by ``settings`` on top of the demo's, watching every ``every`` steps; returns a record each time.

        ``watch``: names that :meth:`Eyes.look` knows, of ``eyes`` if others than the usual. Records also hold the step
        and the work done so far. A finished run is kept under its name and settings.
        """
        config = self._config(settings, every)
        seen = [config.model_dump(mode="json"), list(watch), *([len(eyes.requests)] if eyes else [])]
        key = digest_bytes(canonical_json(seen).encode())[:16]
        file = self.plan.root / "runs" / f"{name}-{key}.json"
        if file.is_file():
            kept: list[Record] = json.loads(file.read_text("utf-8"))
            return kept
        torch_session(self.seed, 1)
        policy = make_policy(load_pipeline(self.plan.sources["base_model"]), config.adapters(), self.seed)
        bench = Bench(config, self.seed, policy, self.material, self.assets)
        out = file.with_suffix("")
        trainer = Trainer(
            policy, bench.algorithm(), config, self.seed, out, self._watcher(policy, watch, eyes or self.eyes)
        )
        trainer.run()
        write_json(file, trainer.watch.records)
        return trainer.watch.records

    def search(
        self, ways: Mapping[str, tuple[str, Mapping[str, Any]]], rewards: Mapping[str, float], prompts: int
    ) -> dict[str, Found]:
        """Each of ``ways`` (search, settings) to look for pictures of the same prompts, on the base model."""
        import torch

        torch_session(self.seed, 1)
        plan = FinetuneConfig.model_validate({"recipe": "denoising_lora", "rewards": rewards, "prompts": prompts})
        policy = make_policy(load_pipeline(self.plan.sources["base_model"]), plan.adapters(), self.seed)
        bench = Bench(plan, self.seed, policy, self.material, self.assets)
        index = torch.arange(len(bench.pool))
        found = {}
        for name, (search, settings) in ways.items():
            chosen = SEARCHES.get(search)
            values = chosen.config.model_validate(dict(settings))
            conditions = bench.pool.conditions(index)
            found[name] = chosen.run(policy, bench.pool.prompts, conditions, bench.terms, values, self.seed)
        return found

    def _config(self, settings: Mapping[str, Any], every: int) -> FinetuneConfig:
        demo = self.plan.configs["finetune"].model_dump(mode="json")
        same = {key: demo[key] for key in ("seed", "threads", "det_size", "batch", "learning_rate", "keep_phrases")}
        chosen = {"recipe": "denoising_lora", **same, **settings, "validation": {"every": every}}
        return FinetuneConfig.model_validate(chosen)

    def _watcher(self, policy: Policy, watch: Sequence[str], eyes: Eyes) -> Callable[[], Record]:
        def look() -> Record:
            work = {name: float(value) for name, value in policy.counts.as_dict().items()}
            return {"score": 0.0, **work, **eyes.look(policy.pipeline, watch)}

        return look


class Eyes:
    """The judges, and the prompts and noises they always look at. ``own``: what else a claim wants to see, by name."""

    def __init__(
        self,
        bed: Testbed,
        prompts: int = 48,
        own: Mapping[str, Callable[[Sequence[np.ndarray]], float]] | None = None,
    ) -> None:
        self.own = dict(own or {})
        sources = bed.plan.sources
        judge = bed.path("train_judge", "reward")
        self.judges = Judges.load(judge, sources["encoder"], sources["judge_faces"], sources["oracle"], 64, 1)
        self.held_out = read_pictures(bed.path("split", "evaluation"))
        self.targets = references_of(self.judges, read_pictures(bed.path("split", "references")), self.held_out)
        self.reward = bed.assets.learnt
        self.requests = draw_requests(self.held_out, prompts=prompts, seeds=1, named=3, seed=bed.seed)
        self.seeds = noise_seeds(self.requests, bed.seed)

    def pictures(self, pipeline: Any, steps: int = 4) -> list[np.ndarray]:
        """The pipeline's pictures of the fixed prompts, (H, W, 3) uint8 each."""
        images = generate(
            pipeline, [r.prompt for r in self.requests], self.seeds, steps=steps, guidance_scale=3.5, batch=16
        )
        return list(pixels_of(images))

    def look(self, pipeline: Any, watch: Sequence[str]) -> Record:
        """Mean of each metric over the fixed prompts; ``taste`` is the annotators' true utility of what is shown."""
        drawn = self.pictures(pipeline)
        read = self.judges.read(drawn, self.requests, self.targets)
        own: dict[str, Callable[[Sequence[np.ndarray]], Any]] = {"taste": self.taste, "proxy": self.proxy, **self.own}
        found = {name: own[name](drawn) if name in own else METRICS.get(name).score(read) for name in watch}
        return {name: float(np.asarray(values).mean()) for name, values in found.items()}

    def proxy(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """(N,) what the reward that training sees makes of the pictures: the appeal head."""
        import torch

        with torch.no_grad():
            scores = self.reward.scores(_tensor(pictures), [request.words for request in self.requests])
        return np.asarray(scores["appeal"].double().numpy())

    def taste(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """(N,) utility of each picture by the taste that the annotators share, but for sharpness."""
        import torch

        with torch.no_grad():
            return utility(self.judges.oracle.probabilities(_tensor(pictures)))


def _tensor(pictures: Sequence[np.ndarray]) -> Tensor:
    """(N, 3, H, W) float32 in [0, 1]."""
    import torch

    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def utility(seen: Mapping[str, Any]) -> np.ndarray:
    """(N,) utility of what the oracle sees: factor -> (N, values)."""
    from likeness.models.embedded.portraits import FACTORS

    total = np.zeros(len(next(iter(seen.values()))))
    for name, weight in TASTE.items():
        if name != SHARPNESS:
            factor, _, value = name.partition("=")
            total += weight * seen[factor][:, FACTORS[factor].index(value)].double().numpy()
    return total
