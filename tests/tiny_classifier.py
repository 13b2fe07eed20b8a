"""A tiny random classifier of pictures, saved as transformers saves one."""

from __future__ import annotations

from pathlib import Path


def tiny_classifier(folder: Path) -> Path:
    """A ViT of two layers with the labels Safe, NSFW and porn."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    names = dict(enumerate(("Safe", "NSFW", "porn")))
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = ViTConfig(**size, image_size=32, patch_size=8, id2label=names, label2id={v: k for k, v in names.items()})
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
