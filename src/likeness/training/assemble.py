"""From a plan and the artefacts it names to an algorithm with everything frozen computed once."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.data.captions import without_token
from likeness.rewards.compose import REWARDS, RewardAssets
from likeness.training.algorithm import Algorithm, Combined
from likeness.training.plan import Plan
from likeness.training.prompts import rollout_prompts, subject_tokens
from likeness.training.reward_backprop import PromptPool, RewardBackprop, RewardTerm
from likeness.training.supervised import LatentSet, Supervised

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.rewards.identity import IdentityReward

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Material:
    """Rows with ``image`` and ``caption``; ``references`` also have ``subject`` and ``token``, ``train`` also has
    ``subject_caption``."""

    references: Sequence[Row]
    train: Sequence[Row]


def image_tensor(rows: Sequence[Row], size: int) -> Tensor:
    """The rows' pictures, centre-cropped to squares and resized: (N, 3, size, size) float32 in [0, 1]."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    from likeness.data.images import decode

    pictures = [
        np.asarray(ImageOps.fit(Image.fromarray(decode(row["image"])), (size, size), Image.Resampling.LANCZOS))
        for row in rows
    ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def mean_embeddings(reward: IdentityReward, images: Tensor, subjects: Sequence[str]) -> dict[str, Tensor]:
    """Subject -> (D,) normalised mean of its references' embeddings (ID-Aligner, LoRA); faceless pictures are left out.

    Raises:
        InputError: no face was found in any reference of a subject.
    """
    import torch
    from torch.nn import functional

    with torch.no_grad():
        keypoints, found = reward.find(images)
        embeddings = reward.embedder.embed(images, keypoints)
    means = {}
    for subject in sorted(set(subjects)):
        rows = torch.tensor([name == subject for name in subjects]) & found
        if not bool(rows.any()):
            raise InputError(
                f"no face is found in any reference of '{subject}'",
                remedy="add clearer references of this subject, or lower det_size to match small pictures",
            )
        means[subject] = functional.normalize(embeddings[rows].mean(0), dim=0)
    return means


def reward_terms(plan: Plan, assets: RewardAssets) -> tuple[RewardTerm, ...]:
    """The plan's rewards with their weights (ID-Aligner eq. 9)."""
    return tuple(
        RewardTerm(
            name=name,
            reward=REWARDS.get(name)(assets),
            weight=weight,
            best=1.0 if name == "identity" else 0.0,
            zero_means_missed=name == "identity",
        )
        for name, weight in plan.rewards.items()
    )


def build_algorithm(plan: Plan, seed: int, pipeline: Any, material: Material, assets: RewardAssets) -> Algorithm:
    """The plan's losses over its material; the references' latents, the texts and their embeddings are made once."""
    from likeness.models.generator import image_size

    size = image_size(pipeline)
    images = image_tensor(material.references, size)
    parts: list[Algorithm] = []
    terms = reward_terms(plan, assets)
    if terms:
        pool = _prompt_pool(plan, seed, pipeline, material, images, terms)
        parts.append(RewardBackprop.build(pipeline, terms, pool, steps=plan.rollout_steps, late=plan.late))
    if plan.denoising_weight:
        captions = [str(row["caption"]) for row in material.references]
        parts.append(Supervised("denoising", LatentSet.encode(pipeline, images, captions), plan.denoising_weight))
    if plan.prior_weight:
        rows = prior_rows(material.train, plan.prior_images, seed)
        latents = LatentSet.encode(pipeline, image_tensor(rows, size), [str(row["caption"]) for row in rows])
        parts.append(Supervised("prior", latents, plan.prior_weight))
    return Combined(tuple(parts))


def prior_rows(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Up to ``count`` training rows, drawn by seed."""
    order = list(range(len(rows)))
    random.Random(derive_seed(seed, "prior rows")).shuffle(order)
    return [rows[i] for i in sorted(order[:count])]


def _prompt_pool(
    plan: Plan, seed: int, pipeline: Any, material: Material, images: Tensor, terms: Sequence[RewardTerm]
) -> PromptPool:
    import torch

    situations = [str(row["subject_caption"]) for row in material.train]
    prompts, subjects = rollout_prompts(material.references, situations, plan.prompts, seed, plan.keep_phrases)
    tokens = subject_tokens(material.references)
    words = [without_token(prompt, tokens[subject]) for prompt, subject in zip(prompts, subjects, strict=True)]
    identity: Any = next((term.reward for term in terms if term.name == "identity"), None)
    if identity is None:
        return PromptPool.encode(pipeline, prompts, None, words)
    means = mean_embeddings(identity, images, [str(row["subject"]) for row in material.references])
    return PromptPool.encode(pipeline, prompts, torch.stack([means[subject] for subject in subjects]), words)
