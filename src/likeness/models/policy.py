"""The model being tuned: a frozen pipeline with trainable parts.

Shapes: B samples, C latent channels, h w latent size. The reference model is the policy with its parts off: no second
copy of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.diffusion.flow import path_of
from likeness.diffusion.path import Path as NoisePath
from likeness.models.adapters.base import ADAPTERS, Adapter, ImagePrompt, Part, attach
from likeness.models.families import Conditioning, Family, encode_prompts, family_of, network_of
from likeness.models.generator import decode_latents

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter


@dataclass
class Counts:
    """Work done so far, in samples (a batch of 8 is 8): the unit in which methods are compared."""

    unet_forwards: int = 0
    unet_backwards: int = 0
    decodes: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class Prompts:
    """N texts to be drawn from. ``encoded``: their conditioning, made once; None where text encoders are trained.

    ``faces``: (N, D), an embedding for each text, zeros for none; None where no part reads any.
    """

    texts: tuple[str, ...]
    encoded: Conditioning | None
    faces: Tensor | None = None

    def __len__(self) -> int:
        return len(self.texts)


@dataclass
class Policy:
    """``network``: the UNet or transformer. ``autocast``: dtype of its forwards. ``small_decoder``: an AutoencoderTiny
    that training decodes with, in the place of the pipeline's VAE.

    ``most``: the largest of a number over the processes that share a sharded network, which all have to call it equally
    often; the number itself where each has a whole one.
    """

    pipeline: Any
    path: NoisePath
    family: Family
    parts: tuple[Part, ...]
    network: Any
    autocast: Any = None
    most: Callable[[int], int] = int
    small_decoder: Any = None
    counts: Counts = field(default_factory=Counts)

    def predict(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The network's output (B, C, h, w), float32, for latents ``x_t`` (B, C, h, w) at timesteps ``t`` (B,)."""
        import torch

        self.counts.unet_forwards += len(x_t)
        if torch.is_grad_enabled():
            self.counts.unet_backwards += len(x_t)
        home = self.pipeline.vae.device  # the network may be wrapped or sharded
        with nullcontext() if self.autocast is None else torch.autocast(home.type, self.autocast):
            output = self.family.call(self.network, x_t.to(home), t.to(home), conditioning.to(home))
        return (output if self.autocast is None else output.float()).to(x_t.device)

    @property
    def image_prompt(self) -> ImagePrompt | None:
        """What the parts read beside the words, if anything."""
        return next((part.image_prompt for part in self.parts if part.image_prompt is not None), None)

    def prompts(self, texts: Sequence[str], faces: Tensor | None = None) -> Prompts:
        """Texts ready for :meth:`encode`. ``faces``: (N, D) embeddings, for a part that reads them; none is zeros."""
        import torch

        frozen = not any(part.trains_text for part in self.parts)
        encoded = encode_prompts(self.pipeline, texts) if frozen else None
        if self.image_prompt is not None and faces is None:
            faces = torch.zeros(len(texts), self.image_prompt.size)
        return Prompts(tuple(texts), encoded, faces if self.image_prompt is not None else None)

    def encode(self, prompts: Prompts, index: Tensor) -> Conditioning:
        """Conditioning of the prompts at ``index`` (B,), with gradient where text encoders are trained."""
        words = self._words(prompts, index)
        if prompts.faces is None:
            return words
        return words.plus(image_embeds=prompts.faces[index].to(words.hidden))

    def _words(self, prompts: Prompts, index: Tensor) -> Conditioning:
        import torch

        if prompts.encoded is not None:
            return prompts.encoded.take(index)
        wanted, place = index.unique(return_inverse=True)
        texts = [prompts.texts[i] for i in wanted.tolist()]
        return encode_prompts(self.pipeline, texts, grad=torch.is_grad_enabled()).take(place)

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], differentiable."""
        self.counts.decodes += len(latents)
        return decode_latents(self.pipeline, latents, self.small_decoder)

    def trainable(self) -> dict[str, Parameter]:
        """All trained parameters by name, in a fixed order."""
        return dict(sorted((name, p) for part in self.parts for name, p in part.parameters().items()))

    def rates(self) -> dict[str, float]:
        """Factor on the learning rate of each trained parameter."""
        return {name: part.rate(name) for part in self.parts for name in part.parameters()}

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, every part is off: the policy is the base model."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.reference())
            yield

    def shrink(self, share: float) -> None:
        """Keep ``share`` of what every part has learnt."""
        for part in self.parts:
            part.shrink(share)

    def save(self, folder: Path) -> None:
        """Write every part at ``folder``; :func:`tuned` and, by each adapter's ``plain`` line, diffusers load it."""
        for part in self.parts:
            part.save(folder)


def make_policy(
    pipeline: Any, trainable: Mapping[str, Config], seed: int, *, gradient_checkpointing: bool = False
) -> Policy:
    """A policy that starts as the base model. ``trainable``: adapter's name -> its settings.

    ``gradient_checkpointing`` trades a second forward for memory.
    """
    parts = attach(pipeline, trainable, seed)
    network = network_of(pipeline)
    if gradient_checkpointing:
        network.enable_gradient_checkpointing()
        pipeline.vae.enable_gradient_checkpointing()
    family = family_of(pipeline)
    path = path_of(pipeline.scheduler, partial(family.timing, pipeline))
    return Policy(pipeline, path, family, parts, network)


def _saved(folder: Path) -> list[Adapter[Any]]:
    """The adapters that wrote into ``folder``.

    Raises:
        InputError: none did.
    """
    found = [adapter for adapter in map(ADAPTERS.get, ADAPTERS) if (folder / adapter.file).is_file()]
    if not found:
        wanted = " or ".join(ADAPTERS.get(name).file for name in ADAPTERS)
        raise InputError(f"{folder} holds no {wanted}", remedy="give the folder that the finetune step wrote")
    return found


@contextmanager
def tuned(pipeline: Any, folder: Path) -> Iterator[None]:
    """Inside, the pipeline is tuned by what :meth:`Policy.save` wrote at ``folder``; after it, the base model again."""
    with ExitStack() as stack:
        for adapter in _saved(folder):
            adapter.load(pipeline, folder)
            stack.callback(adapter.unload, pipeline)
        yield
