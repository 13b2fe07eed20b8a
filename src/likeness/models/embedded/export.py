"""Collect the embedded models in the layouts that production uses, measure them together, write their cards."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from likeness.core.step import Metrics
from likeness.models.embedded.augment import batch_of
from likeness.models.embedded.corpus import Corpus
from likeness.models.embedded.detector import build_detector
from likeness.models.embedded.oracle import AttributeReader, accuracy, prompt_fidelity
from likeness.models.embedded.portraits import LICENCE, caption
from likeness.models.embedded.recogniser import build_recogniser, verification
from likeness.models.faces.export import export_detector, export_recogniser

if TYPE_CHECKING:
    from torch import Tensor, nn

_CARD = """---
license: other
license_name: {licence}
tags: [likeness, embedded]
---
# {title}

{text}

Trained on portraits drawn by DiceBear's avataaars style (Pablo Stanley, avataaars.com, "free for personal and
commercial use"). Rebuild everything with `dvc repro pipelines/embedded/dvc.yaml` and `make embedded-assets`.

| measure | value |
|---|---|
{rows}
"""


def export(seed: int, prompts: int, parts: Mapping[str, Path], assets: Path) -> Metrics:
    """Write ``pipeline/``, ``faces/models/portraits{,-judge}/``, ``dual_encoder/`` and ``oracle/`` below ``assets``.

    ``parts``: folders named as the input ports of the step ``export_embedded``.
    """
    from likeness.core.io import LINEAGE

    for source, name in (("pipeline", "pipeline"), ("encoder", "dual_encoder"), ("oracle", "oracle")):
        shutil.copytree(parts[source], assets / name, ignore=shutil.ignore_patterns(LINEAGE))
    test = Corpus.load(parts["corpus"], "test")
    detector_model = _load(build_detector(), parts["detector"])
    metrics: dict[str, dict[str, float]] = {}
    for name, source, kind in (("portraits", "recogniser", "reward"), ("portraits-judge", "judge", "judge")):
        pack = assets / "faces" / "models" / name
        pack.mkdir(parents=True)
        model = _load(build_recogniser("reward" if kind == "reward" else "judge"), parts[source])
        export_detector(detector_model, pack / "det.onnx")
        export_recogniser(model, pack / "recognition.onnx")
        metrics[f"faces/models/{name}"] = verification(model, test) | _detection(detector_model, test)
    reader = AttributeReader.load(parts["oracle"])
    metrics["oracle"] = {f"accuracy {name}": value for name, value in accuracy(reader, test).items()}
    metrics["pipeline"] = _generation(seed, prompts, parts["pipeline"], reader, detector_model, test)
    metrics["dual_encoder"] = _retrieval(parts["encoder"], test)
    for folder, values in metrics.items():
        _write_card(assets / folder, folder, values)
    return {f"{folder}/{name}": value for folder, values in metrics.items() for name, value in values.items()}


def _load(model: nn.Module, folder: Path) -> nn.Module:
    from safetensors.torch import load_file

    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval().requires_grad_(False)


def _scores(detector: nn.Module, images: Tensor) -> np.ndarray:
    """(B,) best face score of each picture, (B, 3, 64, 64) in [0, 1]."""
    maps = detector.maps((images * 255 - 127.5) / 128)  # type: ignore[operator]
    best: np.ndarray = np.max([m[:, 0].sigmoid().amax((1, 2)).numpy() for m in maps], axis=0)
    return best


def _detection(detector: nn.Module, test: Corpus, count: int = 400) -> dict[str, float]:
    rng = np.random.default_rng(0)
    faces = batch_of(test, np.arange(min(count, len(test))))
    noise = faces.new_tensor(rng.uniform(0, 1, tuple(faces.shape)).astype(np.float32))
    return {
        "faces found": float((_scores(detector, faces) >= 0.5).mean()),
        "false hits on noise": float((_scores(detector, noise) >= 0.5).mean()),
    }


def _generation(
    seed: int, count: int, pipeline: Path, reader: AttributeReader, detector: nn.Module, test: Corpus
) -> dict[str, float]:
    from likeness.models.generator import generate, load_pipeline

    prompts = [caption(test.portrait(i)) for i in range(count)]
    images = generate(
        load_pipeline(pipeline),
        prompts,
        [seed + i for i in range(count)],
        steps=4,
        guidance_scale=3.5,
        batch=16,
    )
    return {
        "prompt fidelity, full captions of reserved people": float(prompt_fidelity(reader, images, prompts).mean()),
        "faces found": float((_scores(detector, images) >= 0.5).mean()),
    }


def _retrieval(encoder: Path, test: Corpus) -> dict[str, float]:
    from transformers import CLIPModel, CLIPTokenizer

    from likeness.models.embedded.dual_encoder import retrieval

    model = CLIPModel.from_pretrained(encoder, use_safetensors=True).float().eval()
    count = min(512, len(test))
    return {f"recall at 1 of {count} captions": retrieval(model, CLIPTokenizer.from_pretrained(encoder), test, count)}


_TITLES = {
    "pipeline": (
        "Embedded portrait generator",
        "A StableDiffusionPipeline for 64x64 cartoon portraits: VAE f=4, UNet of 4 M parameters, CLIP text encoder; "
        "v-prediction, zero terminal SNR, four DDIM steps.",
    ),
    "faces/models/portraits": (
        "Face pack `portraits`",
        "Detector and recogniser A in insightface's pack layout. Rewards during training; never judges. The five key "
        "points span the head, so that the aligned crop shows hair and beard, which carry identity here.",
    ),
    "faces/models/portraits-judge": (
        "Face pack `portraits-judge`",
        "The same detector with recogniser B: another architecture, another loss, other people. Judges; never rewards.",
    ),
    "dual_encoder": ("Dual image-text encoder", "A small transformers CLIPModel on portraits and captions."),
    "oracle": (
        "Attribute reader",
        "Names the nine factors of a portrait; the oracle behind prompt fidelity and simulated taste.",
    ),
}


def _write_card(folder: Path, name: str, values: dict[str, float]) -> None:
    title, text = _TITLES[name]
    rows = "\n".join(f"| {key} | {value:.4f} |" for key, value in values.items())
    (folder / "README.md").write_text(_CARD.format(licence=LICENCE, title=title, text=text, rows=rows), "utf-8")
