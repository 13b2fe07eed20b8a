"""The steps that train the embedded models from nothing, and export them to ``assets/embedded``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.step import Metrics, Resources, StepSpec
from likeness.models.embedded.detector import DetectorConfig
from likeness.models.embedded.dual_encoder import DualEncoderConfig
from likeness.models.embedded.generator import GeneratorConfig
from likeness.models.embedded.oracle import OracleConfig
from likeness.models.embedded.recogniser import RecogniserConfig
from likeness.models.embedded.vae import VaeConfig
from likeness.models.runtime import torch_session

if TYPE_CHECKING:
    from torch import nn

_CATEGORY = "embedded"
_TRAINING = Resources(cpu=2, memory_gb=4)


class CorpusConfig(Config):
    """Counts of portraits: ``train`` of all people, ``first`` and ``second`` of the two recognisers' people,
    ``test`` of the reserved people."""

    seed: int = 0
    workers: int = 2
    train: int = 24000
    first: int = 8000
    second: int = 8000
    test: int = 2400


class TrainVae(VaeConfig):
    """The VAE's training, and the torch threads it runs with."""

    threads: int = 1


class TrainGenerator(GeneratorConfig):
    """The generator's training, and the torch threads it runs with."""

    threads: int = 1


class TrainRecogniser(RecogniserConfig):
    """A recogniser's training, and the torch threads it runs with."""

    threads: int = 1


class TrainDetector(DetectorConfig):
    """The detector's training, and the torch threads it runs with."""

    threads: int = 1


class TrainDualEncoder(DualEncoderConfig):
    """The dual encoder's training, and the torch threads it runs with."""

    threads: int = 1


class TrainOracle(OracleConfig):
    """The attribute reader's training, and the torch threads it runs with."""

    threads: int = 1


class ExportConfig(Config):
    """``prompts``: how many captions of reserved people the exported generator is measured on."""

    seed: int = 0
    threads: int = 1
    prompts: int = 64


def render_corpus(config: CorpusConfig, corpus: Path) -> Metrics:
    """Render the portraits that the embedded models are trained and measured on."""
    from likeness.models.embedded.corpus import write_corpus

    write_corpus(
        corpus,
        {
            "train": ("all", config.train),
            "first": ("first", config.first),
            "second": ("second", config.second),
            "test": ("reserved", config.test),
        },
        config.seed,
        config.workers,
    )
    return {"portraits": config.train + config.first + config.second + config.test}


def train_vae(config: TrainVae, corpus: Path, vae: Path) -> Metrics:
    """Train the VAE of the embedded generator."""
    from likeness.models.embedded.corpus import Corpus
    from likeness.models.embedded.vae import train_vae as train

    torch_session(config.seed, config.threads)
    return dict(train(config, Corpus.load(corpus, "train"), vae))


def train_generator(config: TrainGenerator, corpus: Path, vae: Path, pipeline: Path) -> Metrics:
    """Train UNet and text encoder on the VAE's latents."""
    from likeness.models.embedded.corpus import Corpus
    from likeness.models.embedded.generator import train_generator as train

    torch_session(config.seed, config.threads)
    return dict(train(config, Corpus.load(corpus, "train"), vae, pipeline))


def train_recogniser(config: TrainRecogniser, corpus: Path, recogniser: Path) -> Metrics:
    """Train recogniser A (reward) or B (judge) on its own people."""
    from likeness.models.embedded.corpus import Corpus
    from likeness.models.embedded.recogniser import train_recogniser as train
    from likeness.models.embedded.recogniser import verification

    torch_session(config.seed, config.threads)
    model = train(config, Corpus.load(corpus, "first" if config.kind == "reward" else "second"))
    _save_module(model, recogniser / "model.safetensors")
    return dict(verification(model, Corpus.load(corpus, "test")))


def train_detector(config: TrainDetector, corpus: Path, detector: Path) -> Metrics:
    """Train the face detector of the portrait domain."""
    from likeness.models.embedded.corpus import Corpus
    from likeness.models.embedded.detector import train_detector as train

    torch_session(config.seed, config.threads)
    _save_module(train(config, Corpus.load(corpus, "train")), detector / "model.safetensors")
    return {}


def train_dual_encoder(config: TrainDualEncoder, corpus: Path, encoder: Path) -> Metrics:
    """Train the dual image-text encoder."""
    from likeness.models.embedded.corpus import Corpus
    from likeness.models.embedded.dual_encoder import retrieval, save_dual_encoder
    from likeness.models.embedded.dual_encoder import train_dual_encoder as train

    torch_session(config.seed, config.threads)
    model, tokenizer = train(config, Corpus.load(corpus, "train"))
    test = Corpus.load(corpus, "test")
    recall = retrieval(model, tokenizer, test, min(512, len(test)))
    save_dual_encoder(model, tokenizer, encoder)
    return {"recall_at_1": recall}


def train_oracle(config: TrainOracle, corpus: Path, oracle: Path) -> Metrics:
    """Train the attribute reader."""
    from likeness.models.embedded.corpus import Corpus
    from likeness.models.embedded.oracle import AttributeReader, accuracy, train_reader

    torch_session(config.seed, config.threads)
    reader = AttributeReader(train_reader(config, Corpus.load(corpus, "train")))
    reader.save(oracle)
    return {f"accuracy_{name}": value for name, value in accuracy(reader, Corpus.load(corpus, "test")).items()}


def export_embedded(
    config: ExportConfig,
    corpus: Path,
    pipeline: Path,
    detector: Path,
    recogniser: Path,
    judge: Path,
    encoder: Path,
    oracle: Path,
    assets: Path,
) -> Metrics:
    """Collect the models in their final layouts, measure them together and write a model card each."""
    from likeness.models.embedded.export import export

    torch_session(config.seed, config.threads)
    parts = {
        "corpus": corpus,
        "pipeline": pipeline,
        "detector": detector,
        "recogniser": recogniser,
        "judge": judge,
        "encoder": encoder,
        "oracle": oracle,
    }
    return export(config.seed, config.prompts, parts, assets)


def _save_module(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


_CORPUS = {"corpus": ArtifactKind.ARRAYS}
_MODEL = ArtifactKind.MODEL
SPECS: tuple[StepSpec[Config], ...] = (
    StepSpec("render_corpus", "1", _CATEGORY, CorpusConfig, render_corpus, {}, _CORPUS),
    StepSpec("train_vae", "1", _CATEGORY, TrainVae, train_vae, _CORPUS, {"vae": _MODEL}, resources=_TRAINING),
    StepSpec(
        "train_generator",
        "1",
        _CATEGORY,
        TrainGenerator,
        train_generator,
        _CORPUS | {"vae": _MODEL},
        {"pipeline": _MODEL},
        resources=_TRAINING,
    ),
    StepSpec(
        "train_recogniser",
        "1",
        _CATEGORY,
        TrainRecogniser,
        train_recogniser,
        _CORPUS,
        {"recogniser": _MODEL},
        resources=_TRAINING,
    ),
    StepSpec("train_detector", "1", _CATEGORY, TrainDetector, train_detector, _CORPUS, {"detector": _MODEL}),
    StepSpec("train_dual_encoder", "1", _CATEGORY, TrainDualEncoder, train_dual_encoder, _CORPUS, {"encoder": _MODEL}),
    StepSpec("train_oracle", "1", _CATEGORY, TrainOracle, train_oracle, _CORPUS, {"oracle": _MODEL}),
    StepSpec(
        "export_embedded",
        "1",
        _CATEGORY,
        ExportConfig,
        export_embedded,
        _CORPUS | dict.fromkeys(("pipeline", "detector", "recogniser", "judge", "encoder", "oracle"), _MODEL),
        {"assets": _MODEL},
    ),
)
