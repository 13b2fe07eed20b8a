"""People, pictures and prompts for the benchmarks: the tiny profile's graph, as far as its split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from likeness.data.shards import read_rows
from likeness.models.generator import load_pipeline
from likeness.models.policy import make_policy
from likeness.models.runtime import torch_session
from likeness.orchestration.drivers import plan_of
from likeness.orchestration.plan import check_sources
from likeness.rewards.compose import RewardAssets
from likeness.training.bench import Bench, Material
from likeness.training.plan import Plan

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "embedded"
FACES = ASSETS / "faces" / "models" / "portraits"
SIDE = 64  # of a portrait: its detector sees it unscaled


def material(root: Path) -> Material:
    """References of two subjects and everyone else's pictures, drawn below ``root`` or reused from there."""
    plan = plan_of("tiny", None, root)
    check_sources(plan)
    for node in plan.pipeline.topological():
        plan.run(node)
        if node.name == "split":
            break
    return Material(
        references=read_rows(root / "split" / "references", ["image", "caption", "subject", "token"]),
        train=read_rows(root / "split" / "train", ["image", "caption", "subject_caption"]),
    )


def bench(found: Material, settings: Mapping[str, Any], seed: int) -> Bench:
    """A fresh policy on the embedded pipeline, and the embedded rewards, on one thread; ``settings`` of a plan."""
    torch_session(seed, 1)
    plan = Plan.model_validate(settings)
    policy = make_policy(load_pipeline(ASSETS / "pipeline"), plan.adapters(), seed)
    assets = RewardAssets(reward=ASSETS, encoder=ASSETS / "dual_encoder", faces=FACES, det_size=SIDE)
    return Bench(plan, seed, policy, found, assets)
