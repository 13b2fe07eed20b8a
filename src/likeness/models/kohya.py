"""A LoRA in Kohya's naming, which ComfyUI, A1111 and their kin read.

``lora_unet_down_blocks_0_…_to_q.lora_down.weight`` with a scalar ``….alpha`` a module; the text encoder of a pipeline
that has one is ``lora_te``, of one that has two ``lora_te1`` and ``lora_te2``. Names are diffusers' modules with
underscores, which all of them accept for SD 1.5, SD 2 and SDXL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import InputError
from likeness.core.io import atomic_output
from likeness.models.adapters.lora import FILE

if TYPE_CHECKING:
    from torch import Tensor

KOHYA_FILE = "kohya.safetensors"
_PARTS = {".lora_A.weight": ".lora_down.weight", ".lora_B.weight": ".lora_up.weight"}
_COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


def to_kohya(folder: Path, out: Path, origin: Mapping[str, str] | None = None) -> int:
    """Write the LoRA in ``folder`` (diffusers' format) to the file ``out``; the number of modules.

    ``origin``: further entries of the file's header, which A1111 shows beside a model.

    Raises:
        InputError: there is no LoRA, or it is one that has no form in this naming.
    """
    from safetensors.torch import save_file

    weights, settings = _read(folder / FILE)
    renamed = kohya_state(weights, settings)
    with atomic_output(out, folder=False) as temporary:
        save_file(renamed, temporary, metadata={"ss_network_module": "networks.lora", **(origin or {})})
    return sum(name.endswith(".alpha") for name in renamed)


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, and the LoRA's settings as diffusers keeps them in the file."""
    from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
    from safetensors import safe_open

    if not file.is_file():
        raise InputError(
            f"there is no {file}", remedy="give the folder of a LoRA, with no image-prompt adapter instead"
        )
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
        weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 not a dictionary
    return weights, json.loads(metadata.get(LORA_ADAPTER_METADATA_KEY, "{}"))


def kohya_state(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The renamed tensors with an alpha for each module, by ``settings`` (its rank, without any).

    Raises:
        InputError: a tensor has no name there: of a transformer, or a DoRA's magnitudes.
    """
    import torch

    two = any(name.startswith("text_encoder_2.") for name in weights)
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1" if two else "lora_te", "text_encoder_2": "lora_te2"}
    renamed: dict[str, Tensor] = {}
    for component, name, tensor in _peft_names(weights):
        part = next((part for part in _PARTS if name.endswith(part)), None)
        if part is None:
            raise InputError(
                f"{component}.{name} has no form in Kohya's naming",
                remedy="export in diffusers' format, which ComfyUI reads for transformers; or train without dora",
            )
        module = f"{prefixes[component]}_{_place(component, name.removesuffix(part))}"
        renamed[module + _PARTS[part]] = tensor.contiguous()
        if part == ".lora_A.weight":
            alpha = float(settings.get(f"{component}.lora_alpha", tensor.shape[0]))
            renamed[f"{module}.alpha"] = torch.tensor(alpha)
    return renamed


def _place(component: str, module: str) -> str:
    """The module's name; a text encoder's begins with ``text_model``, which transformers 5 leaves out of some."""
    inner = component == "unet" or module.startswith(("text_model.", "text_projection"))
    return (module if inner else f"text_model.{module}").replace(".", "_")


def _peft_names(weights: Mapping[str, Tensor]) -> list[tuple[str, str, Tensor]]:
    """Component, name as peft has it, and tensor; files carry older names too."""
    from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft

    found = []
    for component in _COMPONENTS:
        own = {name.removeprefix(f"{component}."): t for name, t in weights.items() if name.startswith(f"{component}.")}
        if own and not any(".lora_A." in name for name in own):
            own = (convert_unet_state_dict_to_peft if component == "unet" else convert_state_dict_to_peft)(own)
        found += [(component, name, tensor) for name, tensor in sorted(own.items())]
    strange = sorted(name for name in weights if not name.startswith(tuple(f"{c}." for c in _COMPONENTS)))
    if strange:
        raise InputError(
            f"{strange[0]} has no form in Kohya's naming",
            remedy="export in diffusers' format, which ComfyUI reads for transformers",
        )
    return found
