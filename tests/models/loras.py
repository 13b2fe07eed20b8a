"""LoRAs with random matrices, as if trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from peft.utils import get_peft_model_state_dict

from likeness.models.adapters.lora import NAME, LoraSettings, attach


def trained(folder: Path, out: Path, **settings: Any) -> dict[str, dict[str, torch.Tensor]]:
    """Save a LoRA whose two matrices are both random; its tensors by component, as peft names them."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    part = attach(pipeline, LoraSettings(**settings), seed=0)
    torch.manual_seed(1)
    for parameter in part.parameters().values():
        parameter.data = torch.randn_like(parameter) * 0.3
    part.save(out)
    return {name: dict(get_peft_model_state_dict(module, adapter_name=NAME)) for name, module in part.modules.items()}
