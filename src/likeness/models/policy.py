"""The model being tuned: a frozen pipeline with a LoRA on its UNet.

Shapes: B samples, C latent channels, h w latent size. The reference model is the policy with its adapter off: no
second copy of the weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.seeds import derive_seed
from likeness.diffusion.path import NoisePath
from likeness.models.generator import ADAPTER, LORA_FILE, Conditioning, decode_latents

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

ATTENTION_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass
class Counts:
    """Work done so far, in samples (a batch of 8 is 8): the unit in which methods are compared."""

    unet_forwards: int = 0
    unet_backwards: int = 0
    decodes: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass
class Policy:
    """``unet`` carries the LoRA named :data:`ADAPTER`; everything else is frozen."""

    pipeline: Any
    path: NoisePath
    counts: Counts = field(default_factory=Counts)

    @property
    def unet(self) -> Any:
        return self.pipeline.unet

    def predict(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's output (B, C, h, w) for latents ``x_t`` (B, C, h, w) at timesteps ``t`` (B,)."""
        import torch

        self.counts.unet_forwards += len(x_t)
        if torch.is_grad_enabled():
            self.counts.unet_backwards += len(x_t)
        added = dict(conditioning.added) or None
        output: Tensor = self.unet(x_t, t, conditioning.hidden, added_cond_kwargs=added, return_dict=False)[0]
        return output

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], differentiable."""
        self.counts.decodes += len(latents)
        return decode_latents(self.pipeline, latents)

    def trainable(self) -> dict[str, Parameter]:
        """The LoRA's parameters by name, in a fixed order."""
        return {name: p for name, p in sorted(self.unet.named_parameters()) if p.requires_grad}

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the adapter is off: the policy is the base model."""
        self.unet.disable_adapters()
        try:
            yield
        finally:
            self.unet.enable_adapters()

    def save(self, folder: Path) -> None:
        """Write the LoRA in diffusers' format at ``folder``; plain ``load_lora_weights`` loads it."""
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft.utils import get_peft_model_state_dict

        layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(self.unet, adapter_name=ADAPTER))
        metadata = _stable(self.unet.peft_config[ADAPTER].to_dict())

        def write(weights: Mapping[str, Tensor], file: str) -> None:
            _write_weights(weights, metadata, Path(file))

        type(self.pipeline).save_lora_weights(
            folder, unet_lora_layers=layers, weight_name=LORA_FILE, save_function=write
        )


def _stable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sets as sorted lists: a set's order changes from process to process, and with it the file's digest."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}


def _write_weights(weights: Mapping[str, Tensor], metadata: Mapping[str, Any], file: Path) -> None:
    """One metadata key only: safetensors writes several in random order, and equal weights must give equal bytes."""
    from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
    from safetensors.torch import save_file

    prefixed = {f"unet.{key}": value for key, value in metadata.items()}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(contiguous, file, metadata={LORA_ADAPTER_METADATA_KEY: json.dumps(prefixed, sort_keys=True)})


def add_lora(
    pipeline: Any,
    *,
    rank: int,
    alpha: float,
    targets: tuple[str, ...] = ATTENTION_PROJECTIONS,
    seed: int,
    gradient_checkpointing: bool = False,
) -> Policy:
    """Put a fresh LoRA (B = 0, so the policy starts as the base model) on the pipeline's UNet.

    ``alpha / rank`` scales the update. ``gradient_checkpointing`` trades a second forward for memory.
    """
    import torch
    from peft import LoraConfig

    settings = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "lora"))
        pipeline.unet.add_adapter(settings, adapter_name=ADAPTER)
    if gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        pipeline.vae.enable_gradient_checkpointing()
    return Policy(pipeline, NoisePath.from_scheduler(pipeline.scheduler))
