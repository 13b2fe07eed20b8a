"""One task for all engines: prompts of a subject, its identity reward, and a pipeline that every diffusers loads.

The reward needs torch and onnx alone: faces of this domain stand at one place, so that place, the mean over the
references, is where it looks. Held-out pictures are scored by the detector's reward, which no engine trains on.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.rewards.base import Conditions
from likeness.rewards.identity import IdentityReward

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.training.bench import Bench, PromptPool

PIPELINE, RECOGNISER, TEXTS, TENSORS = "pipeline", "recognition.onnx", "task.json", "task.safetensors"


@dataclass(frozen=True)
class Fixed:
    """Key points (5, 2) of every picture."""

    keypoints: Tensor

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same for all B of them, each found."""
        import torch

        return self.keypoints.expand(len(images), -1, -1), torch.ones(len(images), dtype=torch.bool)


@dataclass(frozen=True)
class Task:
    """N prompts, the reference embedding (N, D) of each, and the reward. ``probe``: what all engines must agree on."""

    prompts: list[str]
    embeddings: Tensor
    reward: IdentityReward
    probe: dict[str, Tensor]

    def __call__(self, images: Tensor, index: list[int]) -> Tensor:
        """Reward (B,) of images (B, 3, H, W) in [0, 1] of the prompts at ``index``; differentiable."""
        return self.reward(images, Conditions(tuple(self.prompts[i] for i in index), self.embeddings[index]))

    def check(self, pipeline: Any) -> None:
        """Raises AssertionError unless ``pipeline`` and the reward give here what they gave where the task was made."""
        import torch

        index = list(range(len(self.probe["latents"])))
        with torch.no_grad():
            images = pipeline(
                [self.prompts[i] for i in index],
                latents=self.probe["latents"],
                num_inference_steps=4,
                guidance_scale=1.0,
                output_type="pt",
            ).images
            torch.testing.assert_close(images, self.probe["images"], atol=1e-4, rtol=0)
            torch.testing.assert_close(self(images, index), self.probe["rewards"], atol=1e-3, rtol=0)


def load_task(folder: Path) -> Task:
    """What :func:`write_task` wrote."""
    from safetensors.torch import load_file

    from likeness.models.faces.embedder import FaceEmbedder
    from likeness.models.faces.twin import Twin

    texts, tensors = json.loads((folder / TEXTS).read_text("utf-8")), load_file(folder / TENSORS)
    embedder = FaceEmbedder(Twin.from_file(folder / RECOGNISER), texts["size"], texts["mean"], texts["std"])
    reward = IdentityReward(embedder, Fixed(tensors.pop("keypoints")))
    return Task(texts["prompts"], tensors.pop("embeddings"), reward, tensors)


def write_task(found: Bench, pool: PromptPool, base: Path, folder: Path) -> Task:
    """Write the task of rolling out ``pool`` with the pipeline saved at ``base``; ``found`` holds the references."""
    import shutil

    import torch
    from safetensors.torch import save_file

    from likeness.models.generator import load_pipeline

    identity: Any = found.terms.rewards["identity"][1]
    keypoints, seen = identity.find(found.images(found.material.references))
    embedder = identity.embedder
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found.assets.faces / RECOGNISER, folder / RECOGNISER)
    texts = {"prompts": pool.prompts.texts, "size": embedder.size, "mean": embedder.mean, "std": embedder.std}
    (folder / TEXTS).write_text(json.dumps(texts, indent=2) + "\n", "utf-8")
    pipeline = load_pipeline(base)
    write_legacy(pipeline, folder / PIPELINE)
    assert pool.embeddings is not None
    task = Task(list(pool.prompts.texts), pool.embeddings, IdentityReward(embedder, Fixed(keypoints[seen].mean(0))), {})
    latents = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = pipeline(
            task.prompts[:4], latents=latents, num_inference_steps=4, guidance_scale=1.0, output_type="pt"
        ).images
        rewards = task(images, [0, 1, 2, 3])
    probe = {"latents": latents, "images": images, "rewards": rewards}
    save_file({"keypoints": keypoints[seen].mean(0), "embeddings": pool.embeddings, **probe}, folder / TENSORS)
    return load_task(folder)


def write_legacy(pipeline: Any, folder: Path) -> None:
    """Save a Stable Diffusion pipeline as transformers 4 reads it: its names of text weights, its tokenizer files."""
    from safetensors.torch import load_file, save_file

    pipeline.save_pretrained(folder, safe_serialization=True)
    weights = folder / "text_encoder" / "model.safetensors"
    state = load_file(weights)
    save_file(
        {f"text_model.{name.removeprefix('text_model.')}": value for name, value in state.items()},
        weights,
        {"format": "pt"},
    )
    model = json.loads((folder / "tokenizer" / "tokenizer.json").read_text("utf-8"))["model"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")


def draws(task: Task, seed: int) -> Any:
    """A function that returns one (prompt, index), drawn by seed: what trl asks for prompts."""
    chance = random.Random(seed)

    def draw() -> tuple[str, int]:
        index = chance.randrange(len(task.prompts))
        return task.prompts[index], index

    return draw
