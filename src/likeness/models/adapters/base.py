"""What an adapter is: a trainable part of a pipeline, found by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from likeness.core.config import Config
from likeness.core.registry import Registry

if TYPE_CHECKING:
    from torch.nn import Parameter

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class ImagePrompt:
    """What a part reads beside the words: ``size`` is D of a face embedding (B, D); zeros stand for no face.

    ``drop``: share of denoised pictures whose embedding is replaced by zeros, so that guidance has something to guide
    away from.
    """

    size: int
    drop: float


class Part(Protocol):
    """One trainable part of a pipeline; everything outside the parts is frozen."""

    @property
    def trains_text(self) -> bool:
        """Whether the text encoders' output changes, so that it cannot be computed once."""
        ...

    @property
    def image_prompt(self) -> ImagePrompt | None:
        """What it reads beside the words, if anything."""
        ...

    def parameters(self) -> dict[str, Parameter]:
        """What is trained, by name: the component, a dot, and the parameter's name in it."""
        ...

    def rate(self, name: str) -> float:
        """Factor on the learning rate of the parameter of that name."""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Inside, the pipeline behaves as if this part had never been trained."""
        ...

    def shrink(self, share: float) -> None:
        """Keep only ``share`` of what was learnt: the weights move back towards the base model's, at 0 all the way."""
        ...

    def save(self, folder: Path) -> None:
        """Write the part below ``folder``: the same weights give the same bytes."""
        ...


@dataclass(frozen=True)
class Adapter(Generic[C]):
    """``attach``: (pipeline, config, seed) -> a fresh part on the pipeline, which changes nothing until it is trained.

    ``file``: what it writes; a folder that holds it is loaded by ``load`` and taken off again by ``unload``.
    ``plain``: how diffusers alone loads it from FOLDER, as a line of Python.
    """

    config: type[C]
    attach: Callable[[Any, C, int], Part]
    file: str
    load: Callable[[Any, Path], None]
    unload: Callable[[Any], None]
    plain: str


ADAPTERS: Registry[Adapter[Any]] = Registry(
    "adapter",
    builtin=(
        "likeness.models.adapters.full",
        "likeness.models.adapters.image_prompt",
        "likeness.models.adapters.lora",
    ),
)


def attach(pipeline: Any, settings: Mapping[str, Config], seed: int) -> tuple[Part, ...]:
    """Put a fresh part of each named adapter on the pipeline, in the order in which saved ones are loaded.

    That of their names puts ``full`` first: it is of the network's own weights, under the names they have before others
    wrap them.
    """
    parts = tuple(ADAPTERS.get(name).attach(pipeline, settings[name], seed) for name in sorted(settings))
    for part in parts:
        for parameter in part.parameters().values():
            parameter.requires_grad_(True)  # peft freezes whatever was there before it
    return parts
