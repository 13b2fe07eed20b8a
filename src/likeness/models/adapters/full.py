"""Full fine-tuning: the network's own weights, all of them or those of the modules that are named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError, InputError
from likeness.models.adapters.base import ADAPTERS, Adapter, ImagePrompt
from likeness.models.families import family_of, network_of
from likeness.models.sharded import held_as, is_sharded

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

FILE = "network.safetensors"


class FullSettings(Config):
    """``modules``: regular expression that a parameter's name must hold, e.g. ``attn2`` for the cross-attentions."""

    modules: str = Field("", description="regular expression over parameters' names; empty for all")


@dataclass(frozen=True)
class FullPart:
    """``places``: parameter's name -> the module that has it, and its name there. Sharding replaces the parameters, and
    peft renames what it wraps; the modules stay.

    ``original``: the frozen copy that :meth:`reference` swaps in, held as the parameters are; the only adapter that
    needs a second copy.
    """

    places: Mapping[str, tuple[Any, str]]
    original: dict[str, Tensor]
    trains_text: bool = False
    image_prompt: ImagePrompt | None = None

    def parameters(self) -> dict[str, Parameter]:
        return {name: getattr(module, attribute) for name, (module, attribute) in self.places.items()}

    def rate(self, name: str) -> float:
        return 1.0

    @contextmanager
    def reference(self) -> Iterator[None]:
        parameters = self.parameters()
        self._hold_original_as(parameters)
        tuned = {name: p.data.clone() if is_sharded(p) else p.data for name, p in parameters.items()}
        for name, parameter in parameters.items():
            _put(parameter, self.original[name])
        try:
            yield
        finally:
            for name, parameter in parameters.items():
                _put(parameter, tuned[name])

    def shrink(self, share: float) -> None:
        parameters = self.parameters()
        self._hold_original_as(parameters)
        for name, parameter in parameters.items():
            parameter.data.lerp_(self.original[name], 1 - share)

    def _hold_original_as(self, parameters: Mapping[str, Parameter]) -> None:
        for name, parameter in parameters.items():
            self.original[name] = held_as(self.original[name], parameter)

    def save(self, folder: Path) -> None:
        """The trained tensors alone, under the network's own names."""
        from safetensors.torch import save_file

        tensors = {name.partition(".")[2]: p.detach().cpu().contiguous() for name, p in self.parameters().items()}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / FILE)


def _put(parameter: Parameter, value: Tensor) -> None:
    """Let the parameter hold ``value``; FSDP knows a sharded one by its memory, which therefore has to stay."""
    if is_sharded(parameter):
        parameter.data.copy_(value)
    else:
        parameter.data = value


def attach(pipeline: Any, config: FullSettings, seed: int) -> FullPart:
    """Let the network's own parameters be trained.

    Raises:
        ConfigError: no parameter's name matches.
    """
    component = family_of(pipeline).network
    pattern = re.compile(config.modules)
    network = network_of(pipeline)
    names = sorted(name for name, _ in network.named_parameters() if pattern.search(name))
    if not names:
        raise ConfigError(
            f"no parameter of the network matches '{config.modules}'", remedy="name a module, e.g. attn2 or to_k"
        )
    places = {f"{component}.{name}": _place(network, name) for name in names}
    return FullPart(places, {name: getattr(*place).detach().clone() for name, place in places.items()})


def _place(network: Any, name: str) -> tuple[Any, str]:
    module, _, attribute = name.rpartition(".")
    return network.get_submodule(module), attribute


_BEFORE: WeakKeyDictionary[Any, dict[str, Tensor]] = WeakKeyDictionary()  # network -> weights that load replaced


def load(pipeline: Any, folder: Path) -> None:
    """Put the tuned weights of ``folder`` in place of the network's.

    Raises:
        InputError: they are not this network's.
    """
    from safetensors.torch import load_file

    network = network_of(pipeline)
    tuned, own = load_file(folder / FILE), network.state_dict()
    if not tuned.keys() <= own.keys():
        raise InputError(f"{folder / FILE} is of another network", remedy="give the base model it was tuned on")
    _BEFORE[network] = {name: own[name].clone() for name in tuned}
    network.load_state_dict(tuned, strict=False)


def unload(pipeline: Any) -> None:
    """Put the base model's weights back."""
    network = network_of(pipeline)
    network.load_state_dict(_BEFORE.pop(network), strict=False)


PLAIN = f"pipeline.NETWORK.load_state_dict(load_file('FOLDER/{FILE}'), strict=False)  # NETWORK: unet or transformer"
ADAPTERS.add("full", Adapter(FullSettings, attach, FILE, load, unload, PLAIN), __name__)
