"""LoRA (Hu et al., 2106.09685) and DoRA (Liu et al., 2402.09353) on the network and the text encoders, through peft."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from likeness.core.config import Config
from likeness.core.errors import ConfigError, InputError
from likeness.core.seeds import derive_seed
from likeness.models.adapters.base import ADAPTERS, Adapter, ImagePrompt
from likeness.models.families import family_of
from likeness.models.runtime import quiet_loading

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

NAME = "likeness"
FILE = "pytorch_lora_weights.safetensors"
_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")  # CLIP encoders; T5 is left alone, as diffusers' own scripts do
_TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")


class LoraSettings(Config):
    """``rank`` and ``alpha`` (the update is scaled by alpha / rank) of the network's LoRA, rank 0 for none; ``targets``
    are names of modules, none for the family's attention projections. ``dora`` also learns each row's length.

    ``text_rank``, ``text_alpha``: the same of the CLIP text encoders; their learning rate is ``text_rate`` times that
    of the network (ID-Aligner: 1e-4 against 5e-5).
    """

    rank: int = Field(8, ge=0)
    alpha: float = Field(8.0, gt=0)
    targets: tuple[str, ...] = ()
    dora: bool = False
    text_rank: int = Field(0, ge=0)
    text_alpha: float = Field(8.0, gt=0)
    text_rate: float = Field(2.0, gt=0)

    @model_validator(mode="after")
    def _trains_something(self) -> Self:
        if self.rank + self.text_rank == 0:
            raise ConfigError("a LoRA of rank 0 on everything trains nothing", remedy="set rank or text_rank above 0")
        return self


@dataclass(frozen=True)
class LoraPart:
    """``modules``: component's name -> module that carries the adapter :data:`NAME`."""

    pipeline: Any
    modules: Mapping[str, Any]
    text_rate: float
    image_prompt: ImagePrompt | None = None

    @property
    def trains_text(self) -> bool:
        return any(name in _TEXT_ENCODERS for name in self.modules)

    def parameters(self) -> dict[str, Parameter]:
        return {
            f"{component}.{name}": parameter
            for component, module in sorted(self.modules.items())
            for name, parameter in sorted(module.named_parameters())
            if f".{NAME}." in name or name.endswith(f".{NAME}")
        }

    def rate(self, name: str) -> float:
        return self.text_rate if name.startswith(_TEXT_ENCODERS) else 1.0

    @contextmanager
    def reference(self) -> Iterator[None]:
        for module in self.modules.values():
            module.disable_adapters()
        try:
            yield
        finally:
            for module in self.modules.values():
                module.enable_adapters()

    def shrink(self, share: float) -> None:
        """The update is B A: B alone is scaled, so that every reader of the file sees it.

        A DoRA's rows also go back to their own lengths; between the two ends its weights are on no straight line.
        """
        for name, parameter in self.parameters().items():
            component, _, path = name.partition(".")
            place, found, _ = path.partition(".lora_magnitude_vector.")
            if found:
                weight = self.modules[component].get_submodule(place).get_base_layer().weight
                parameter.data.lerp_(weight.flatten(1).norm(dim=1).view_as(parameter), 1 - share)
            elif ".lora_B." in path:
                parameter.data.mul_(share)

    def save(self, folder: Path) -> None:
        """In diffusers' format: plain ``load_lora_weights`` loads it."""
        from peft.utils import get_peft_model_state_dict

        layers: dict[str, Any] = {}
        metadata: dict[str, Any] = {}
        for component, module in self.modules.items():
            layers[f"{component}_lora_layers"] = _named(component, get_peft_model_state_dict(module, adapter_name=NAME))
            settings = _stable(module.peft_config[NAME].to_dict())
            metadata |= {f"{component}.{key}": value for key, value in settings.items()}

        def write(weights: Mapping[str, Tensor], file: str) -> None:
            _write_weights(weights, metadata, Path(file))

        type(self.pipeline).save_lora_weights(folder, weight_name=FILE, save_function=write, **layers)


def _named(component: str, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors under the names that diffusers' training scripts publish: PEFT's for transformers, older ones elsewhere.

    There is an older name for attention projections only. diffusers tells old from new by a file's first name, and of a
    mixture it ignores one half without a word.
    """
    from diffusers.utils import convert_state_dict_to_diffusers

    older: Mapping[str, Tensor] = convert_state_dict_to_diffusers(state)
    mixed = any(".lora_A." in name for name in older)
    return state if component == "transformer" or mixed else older


def _stable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sets as sorted lists: a set's order changes from process to process, and with it the file's digest."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}


def _write_weights(weights: Mapping[str, Tensor], metadata: Mapping[str, Any], file: Path) -> None:
    """One metadata key only: safetensors writes several in random order, and equal weights must give equal bytes."""
    from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(contiguous, file, metadata={LORA_ADAPTER_METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def attach(pipeline: Any, config: LoraSettings, seed: int) -> LoraPart:
    """Fresh LoRAs (B = 0): the pipeline draws what it drew before."""
    import torch

    family = family_of(pipeline)
    modules: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "lora"))
        if config.rank:
            modules[family.network] = getattr(pipeline, family.network)
            _add(modules[family.network], config.rank, config.alpha, config.targets or family.targets, config.dora)
        for name in _TEXT_ENCODERS if config.text_rank else ():
            encoder = getattr(pipeline, name, None)
            if encoder is not None and hasattr(encoder.config, "projection_dim"):  # CLIP, not T5
                modules[name] = encoder
                _add(encoder, config.text_rank, config.text_alpha, _TEXT_TARGETS, config.dora)
    return LoraPart(pipeline, modules, config.text_rate)


def _add(module: Any, rank: int, alpha: float, targets: tuple[str, ...], dora: bool) -> None:
    from peft import LoraConfig

    settings = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights=True, use_dora=dora)
    module.add_adapter(settings, adapter_name=NAME)


def load(pipeline: Any, folder: Path) -> None:
    """Attach the LoRA saved at ``folder``.

    Raises:
        InputError: there is none, or a tensor of it has no place in the pipeline. diffusers and peft would leave such
            tensors out with a remark at most, and the base model would draw in the LoRA's name.
    """
    file = folder / FILE
    if not file.is_file():
        raise InputError(f"{folder} holds no {FILE}", remedy="give the folder that the finetune step wrote")
    try:
        with quiet_loading():  # diffusers remarks on every text encoder that the LoRA leaves alone
            pipeline.load_lora_weights(folder, weight_name=FILE, adapter_name=NAME, local_files_only=True)
    except (ValueError, IndexError) as error:  # what diffusers and peft raise where they notice
        raise _no_place(file, 0, _stored(file)) from error
    found, stored = _attached(pipeline), _stored(file)
    if found != stored:
        unload(pipeline)
        raise _no_place(file, found, stored)


def _stored(file: Path) -> int:
    """Tensors of the LoRA's layers in ``file``; a scale beside a layer is none of them."""
    from safetensors import safe_open

    with safe_open(file, "pt") as weights:
        return sum(not name.endswith(".alpha") for name in weights.keys())  # noqa: SIM118 - no mapping


def _attached(pipeline: Any) -> int:
    from torch.nn import Module

    parts = [part for part in pipeline.components.values() if isinstance(part, Module)]
    names = [name for part in parts for name, _ in part.named_parameters()]
    return sum(f".{NAME}." in name or name.endswith(f".{NAME}") for name in names)


def _no_place(file: Path, found: int, stored: int) -> InputError:
    return InputError(
        f"{found} of the {stored} tensors of {file} have a place in this pipeline",
        remedy="give a LoRA of this base model, in the format that diffusers saves",
    )


def unload(pipeline: Any) -> None:
    """Take every LoRA off: the pipeline is the base model again."""
    pipeline.unload_lora_weights()


PLAIN = f"pipeline.load_lora_weights('FOLDER', weight_name='{FILE}')"
ADAPTERS.add("lora", Adapter(LoraSettings, attach, FILE, load, unload, PLAIN), __name__)
