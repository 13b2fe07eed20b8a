"""What algorithms are built from: the policy, the material, the rewards; everything frozen is computed once."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.data.captions import without_token
from likeness.models.families import image_size
from likeness.models.policy import Policy, Prompts
from likeness.models.subjects import Subjects
from likeness.rewards.base import Conditions, Reward
from likeness.rewards.compose import COMPOSITIONS, REWARDS, Composition, RewardAssets
from likeness.training.algorithm import Combined
from likeness.training.plan import ALGORITHMS, WEIGHT, Plan
from likeness.training.prompts import rollout_prompts, subject_tokens
from likeness.training.terms import Terms
from likeness.training.validation import Validator

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.rewards.identity import IdentityReward

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Material:
    """Rows with ``image`` and ``caption``; ``references`` also have ``subject`` and ``token``, ``train`` also has
    ``subject_caption``. ``preferences``: folder of preference pairs, read by the algorithms that learn from them."""

    references: Sequence[Row]
    train: Sequence[Row]
    preferences: Path | None = None


@dataclass(frozen=True)
class PromptPool:
    """N prompts to roll out, and the mean reference embedding (N, D) of each prompt's subject, where one is asked for.

    ``words``: what the rewards are told, which know no subject's token.
    """

    prompts: Prompts
    words: tuple[str, ...]
    embeddings: Tensor | None = None

    def __len__(self) -> int:
        return len(self.words)

    def conditions(self, index: Tensor) -> Conditions:
        """What the rewards are told about the prompts at ``index`` (B,)."""
        embeddings = None if self.embeddings is None else self.embeddings[index]
        return Conditions(tuple(self.words[i] for i in index.tolist()), embeddings)


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


def own_embeddings(reward: IdentityReward, images: Tensor, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Embeddings (N, D) of the largest face of each of ``images`` (N, 3, H, W), zeros without one, and found (N,)."""
    import torch

    embeddings, found = [], []
    with torch.no_grad():
        for part in images.split(batch):
            keypoints, seen = reward.find(part)
            embeddings.append(reward.embedder.embed(part, keypoints))
            found.append(seen)
    return torch.cat(embeddings), torch.cat(found)


def mean_embeddings(reward: IdentityReward, images: Tensor, subjects: Sequence[str]) -> dict[str, Tensor]:
    """Subject -> (D,) normalised mean of its references' embeddings (ID-Aligner, LoRA); faceless pictures are left out.

    Raises:
        InputError: no face was found in any reference of a subject.
    """
    import torch
    from torch.nn import functional

    embeddings, found = own_embeddings(reward, images)
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


def draw_rows(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Up to ``count`` rows in their own order, drawn by seed."""
    order = list(range(len(rows)))
    random.Random(derive_seed(seed, "prior rows")).shuffle(order)
    return [rows[i] for i in sorted(order[:count])]


@dataclass(frozen=True)
class Bench:
    """One run's ingredients. What several algorithms use is made at the first use and shared."""

    plan: Plan
    seed: int
    policy: Policy
    material: Material
    assets: RewardAssets
    _made: dict[str, Reward] = field(default_factory=dict, repr=False)

    @cached_property
    def terms(self) -> Terms:
        """The plan's rewards and their composition."""
        return self._terms(self.plan.rewards, self.plan.composed())

    @cached_property
    def watched(self) -> Terms:
        """The rewards of validations; the plan's own where none are named."""
        settings = self.plan.validation
        return self._terms(settings.rewards or self.plan.rewards, COMPOSITIONS.get(settings.composition)())

    def _terms(self, weights: Mapping[str, float], composition: Composition) -> Terms:
        for name in weights:
            if name not in self._made:
                self._made[name] = REWARDS.get(name)(self.assets)
        return Terms({name: (weight, self._made[name]) for name, weight in weights.items()}, composition)

    @cached_property
    def pool(self) -> PromptPool:
        """The prompts of rollouts."""
        import torch

        references = self.material.references
        situations = [str(row["subject_caption"]) for row in self.material.train]
        texts, subjects = rollout_prompts(references, situations, self.plan.prompts, self.seed, self.plan.keep_phrases)
        tokens = subject_tokens(references)
        words = tuple(without_token(text, tokens[subject]) for text, subject in zip(texts, subjects, strict=True))
        rewards = [reward for terms in (self.terms, self.watched) for _, reward in terms.rewards.values()]
        if self.policy.image_prompt is None and not any(reward.needs_references for reward in rewards):
            return PromptPool(self.policy.prompts(texts), words)
        means = torch.stack([self.means[subject] for subject in subjects])
        return PromptPool(self.policy.prompts(texts, means), words, means)

    @cached_property
    def means(self) -> dict[str, Tensor]:
        """Subject -> (D,), the mean embedding of its references; see :func:`mean_embeddings`."""
        references = self.material.references
        subjects = [str(row["subject"]) for row in references]
        return mean_embeddings(self.assets.identity, self.images(references), subjects)

    @cached_property
    def subjects(self) -> Subjects | None:
        """The tokens' faces, for an adapter that is shown them; None where it reads words alone."""
        if self.policy.image_prompt is None:
            return None
        tokens = subject_tokens(self.material.references)
        return Subjects({token: self.means[subject] for subject, token in tokens.items()})

    def validator(self) -> Validator:
        """What looks at the run while it trains.

        Raises:
            ConfigError: the best weights are wanted, and no reward says which they are.
        """
        plan = self.plan
        if plan.validation.keep == "best" or plan.validation.patience:
            self.watched.require_some()
        return Validator(
            plan.validation, self.policy, self.watched, self.pool, plan.sample_steps, plan.sample_guidance, self.seed
        )

    def images(self, rows: Sequence[Row]) -> Tensor:
        """The rows' pictures at the pipeline's size, (N, 3, H, W) in [0, 1]."""
        return image_tensor(rows, image_size(self.policy.pipeline))

    def others(self, count: int) -> list[Row]:
        """Up to ``count`` rows of people who are no subject."""
        return draw_rows(self.material.train, count, self.seed)

    def algorithm(self) -> Combined:
        """The plan's losses."""
        parts = {}
        for name, given in self.plan.losses.items():
            spec = ALGORITHMS.get(name)
            settings = spec.config.model_validate({key: value for key, value in given.items() if key != WEIGHT})
            parts[name] = (float(given[WEIGHT]), spec.build(settings, self))
        return Combined(parts)
