"""What the plain loops of the tests share: a pipeline by diffusers, a LoRA by peft, the library's seeds, one update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig

from likeness.core.seeds import derive_seed

SEED, RATE, RANK = 0, 1e-3, 4


def generator(purpose: str, step: int, slot: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(SEED, purpose, step, slot))


def noise(shape: tuple[int, ...], purpose: str, step: int, slot: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(purpose, step, slot))


class Plain:
    """A frozen pipeline with a fresh LoRA on its UNet, AdamW on it, and texts encoded once."""

    def __init__(self, folder: Path, texts: list[str]) -> None:
        self.pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        self.unet: Any = self.pipe.unet.requires_grad_(False)
        self.vae: Any = self.pipe.vae.requires_grad_(False)
        self.pipe.text_encoder.requires_grad_(False)
        self.scheduler = self.pipe.scheduler
        torch.manual_seed(derive_seed(SEED, "lora"))
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        self.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets), adapter_name="likeness")
        self.trained = {name: p for name, p in self.unet.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=RATE, weight_decay=0.01)
        tokens = self.pipe.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        self.text = self.pipe.text_encoder(tokens.input_ids)[0]

    def predict(self, x_t: torch.Tensor, t: int | torch.Tensor, text: int) -> torch.Tensor:
        """The UNet's output for one sample (1, 4, h, w)."""
        output: torch.Tensor = self.unet(x_t, torch.as_tensor(t), self.text[text][None]).sample
        return output

    def redness(self, x0: torch.Tensor) -> torch.Tensor:
        """Mean red minus mean of green and blue of one sample's picture."""
        image = (self.vae.decode(x0 / self.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
        red, green, blue = image.mean((0, 2, 3))
        return red - (green + blue) / 2

    def update(self, loss: torch.Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def result(self) -> dict[str, torch.Tensor]:
        return {f"unet.{name}": p.detach() for name, p in self.trained.items()}
