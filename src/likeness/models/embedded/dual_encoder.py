"""Train the dual image-text encoder: a small transformers CLIPModel on portraits and their captions.

Symmetric InfoNCE with a learned temperature (CLIP, Radford et al., 2103.00020).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from likeness.core.config import Config
from likeness.models.embedded.augment import batch_of, jitter
from likeness.models.embedded.fit import FitConfig, fit
from likeness.models.embedded.generator import MAX_TOKENS, GeneratorConfig, train_tokenizer, training_caption

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import CLIPModel, CLIPTokenizer

    from likeness.models.embedded.corpus import Corpus

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class DualEncoderConfig(Config):
    """Training of the image and text encoders, together, from scratch."""

    seed: int = 0
    batch: int = 96
    fit: FitConfig = FitConfig(steps=1000, learning_rate=1.5e-3, weight_decay=1e-3)


def build_dual_encoder(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIPModel: 64 px images in 8 px patches, 32 tokens, 64-d joint space."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 8,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


def train_dual_encoder(config: DualEncoderConfig, corpus: Corpus) -> tuple[CLIPModel, CLIPTokenizer]:
    """Train on ``corpus``; returns model (eval mode) and tokenizer."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    tokenizer = train_tokenizer(corpus)
    model = build_dual_encoder(tokenizer)
    captions = GeneratorConfig(drop_caption=0.0, drop_identity=0.1, drop_phrase=0.1)

    def loss_at(step: int) -> Tensor:
        index = rng.integers(len(corpus), size=config.batch)
        texts = [training_caption(corpus.portrait(int(i)), captions, rng) for i in index]
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        pixels = jitter(batch_of(corpus, index), rng) * 2 - 1
        logits = model(input_ids=ids, pixel_values=pixels).logits_per_image
        target = torch.arange(len(index))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    fit([model], loss_at, config.fit, "dual encoder")
    return model, tokenizer


def save_dual_encoder(model: CLIPModel, tokenizer: CLIPTokenizer, out: Path) -> None:
    """Write a transformers CLIP folder in fp16 safetensors, with tokenizer and image processor."""
    from transformers import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(
        size={"height": 64, "width": 64}, do_center_crop=False, image_mean=list(MEAN), image_std=list(STD)
    )
    model.half().save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    processor.save_pretrained(out)


def retrieval(model: CLIPModel, tokenizer: CLIPTokenizer, corpus: Corpus, count: int = 512) -> float:
    """Share of ``count`` pictures whose own full caption is the nearest of all (recall at 1)."""
    import numpy as np
    import torch

    from likeness.models.embedded.portraits import caption

    texts = [caption(corpus.portrait(i)) for i in range(count)]
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=batch_of(corpus, np.arange(count)) * 2 - 1).logits_per_image
    return float((logits.argmax(1) == torch.arange(count)).float().mean())
