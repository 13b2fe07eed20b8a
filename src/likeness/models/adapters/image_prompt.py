"""A face embedding as a prompt: decoupled cross-attention (IP-Adapter, Ye et al., 2308.06721), FaceID's variant.

Shapes: B samples, D size of an embedding, T image tokens, E width of the text, C channels of an attention.

An embedding becomes T tokens (B, T, E) by two linear layers and a layer norm. Every cross-attention attends to them
beside the text, with keys and values of their own (eq. 5; lambda of eq. 8 is ``scale``):

    Z = Attention(Q, K, V) + lambda Attention(Q, K', V'),  K' = tokens W_k', V' = tokens W_v'

The paper starts W_k' and W_v' from the text's W_k and W_v, to learn faster (section 3.2). Here W_k' starts from W_k,
but W_v' at 0: the second term is then exactly 0, and a policy starts as its reference model, with which rewards and
gates compare it. With the text's W_v the untrained tokens would disturb every picture at first.

The modules are diffusers' own, put on by its own loader, and so is the file's format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError, InputError
from likeness.core.seeds import derive_seed
from likeness.models.adapters.base import ADAPTERS, Adapter, ImagePrompt
from likeness.models.families import family_of, network_of
from likeness.models.runtime import quiet_loading

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

FILE = "image_prompt.safetensors"
_FILE_NAMES = (("ff.net.0.proj.", "proj.0."), ("ff.net.2.", "proj.2."))  # diffusers' module -> published file
State = dict[str, dict[str, "Tensor"]]


class ImagePromptSettings(Config):
    """``tokens``: T. ``embedding``: D, 0 for that of the face pack. ``scale``: lambda; the file holds it within W_v'.

    ``drop``: share of denoised pictures whose embedding is zeros (the paper: 5 % alone, 5 % together with the text).
    """

    tokens: int = Field(4, gt=0)
    embedding: int = Field(0, ge=0)
    scale: float = Field(1.0, gt=0)
    drop: float = Field(0.1, ge=0, lt=1)


@dataclass(frozen=True)
class _Wiring:
    """What a UNet attends by. ``processors``: attention's name -> its processor."""

    processors: Mapping[str, Any]
    projection: Any
    kind: str | None

    @classmethod
    def of(cls, network: Any) -> _Wiring:
        return cls(dict(network.attn_processors), network.encoder_hid_proj, network.config.encoder_hid_dim_type)

    def put_on(self, network: Any) -> None:
        network.set_attn_processor(dict(self.processors))  # which empties the dict it is given
        network.encoder_hid_proj = self.projection
        network.config.encoder_hid_dim_type = self.kind

    def modules(self) -> dict[str, Any]:
        """The adapter's modules by their names in the network."""
        from torch.nn import Module

        own = {name: processor for name, processor in self.processors.items() if isinstance(processor, Module)}
        return own | {"encoder_hid_proj": self.projection}


@dataclass(frozen=True)
class ImagePromptPart:
    """``own``: the wiring with the adapter; ``before``: the base model's."""

    network: Any
    own: _Wiring
    before: _Wiring
    image_prompt: ImagePrompt
    scale: float
    trains_text: bool = False

    def parameters(self) -> dict[str, Parameter]:
        modules = self.own.modules().items()
        return {f"unet.{place}.{name}": p for place, module in modules for name, p in module.named_parameters()}

    def rate(self, name: str) -> float:
        return 1.0

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The base model's own processors: it needs no embeddings, and does not look at any it is given."""
        self.before.put_on(self.network)
        try:
            yield
        finally:
            self.own.put_on(self.network)

    def shrink(self, share: float) -> None:
        """The second term is linear in W_v'."""
        for name, parameter in self.parameters().items():
            if ".to_v_ip." in name:
                parameter.data.mul_(share)

    def save(self, folder: Path) -> None:
        """One file that plain diffusers' ``load_ip_adapter`` loads, under the names that FaceID's adapters publish."""
        from safetensors.torch import save_file

        (projection,) = self.own.projection.image_projection_layers
        tensors = {f"image_proj.{_published(name)}": value for name, value in projection.state_dict().items()}
        for number, processor in _numbered(self.own.processors):
            tensors[f"ip_adapter.{number}.to_k_ip.weight"] = processor.to_k_ip[0].weight
            tensors[f"ip_adapter.{number}.to_v_ip.weight"] = processor.to_v_ip[0].weight * self.scale
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, folder / FILE)


def _published(name: str) -> str:
    for module, file in _FILE_NAMES:
        name = name.replace(module, file)
    return name


def _numbered(processors: Mapping[str, Any]) -> list[tuple[int, Any]]:
    """The cross-attentions' processors with their numbers in a file: self-attentions are counted and not stored."""
    cross = [processor for name, processor in processors.items() if not name.endswith("attn1.processor")]
    return [(2 * i + 1, processor) for i, processor in enumerate(cross)]


def _fresh(network: Any, config: ImagePromptSettings, seed: int) -> State:
    """An adapter that adds 0, in the file's form but for ``scale``."""
    import torch
    from diffusers.models.embeddings import IPAdapterFaceIDImageProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "image prompt"))
        projection = IPAdapterFaceIDImageProjection(
            config.embedding, network.config.cross_attention_dim, mult=2, num_tokens=config.tokens
        )
    tokens = {_published(name): value for name, value in projection.state_dict().items()}
    return {"image_proj": tokens, "ip_adapter": _fresh_attention(network)}


def _fresh_attention(network: Any) -> dict[str, Tensor]:
    import torch

    attentions = {name: network.get_submodule(name.removesuffix(".processor")) for name in network.attn_processors}
    weights: dict[str, Tensor] = {}
    for number, attention in _numbered(attentions):
        weights[f"{number}.to_k_ip.weight"] = attention.to_k.weight.detach().clone()
        weights[f"{number}.to_v_ip.weight"] = torch.zeros_like(attention.to_v.weight)
    return weights


def _put_on(network: Any, state: State) -> None:
    """By diffusers' loader, which draws initial weights before it fills them."""
    import torch

    with torch.random.fork_rng(devices=[]), quiet_loading():
        network._load_ip_adapter_weights([state], low_cpu_mem_usage=False)


def _unet(pipeline: Any) -> Any:
    family = family_of(pipeline)
    if family.network != "unet":
        raise ConfigError(
            f"an image prompt is for UNets, and a {type(pipeline).__name__} has a {family.network}",
            remedy="train a lora instead, or take a Stable Diffusion 1.5, XL or inpainting pipeline",
        )
    return network_of(pipeline)


def attach(pipeline: Any, config: ImagePromptSettings, seed: int) -> ImagePromptPart:
    """An adapter that changes nothing until it is trained.

    Raises:
        ConfigError: the pipeline has no UNet, or the size of the embeddings is not said.
    """
    network = _unet(pipeline)
    if not config.embedding:
        raise ConfigError(
            "the size of the image prompt's embeddings is not known",
            remedy="set image_prompt.embedding to the size of the face pack's embeddings, e.g. 512",
        )
    before = _Wiring.of(network)
    _put_on(network, _fresh(network, config, seed))
    own = _Wiring.of(network)
    for _, processor in _numbered(own.processors):
        processor.scale = [config.scale]
    return ImagePromptPart(network, own, before, ImagePrompt(config.embedding, config.drop), config.scale)


def sized(trainable: Mapping[str, Config], pack: Callable[[], int]) -> dict[str, Config]:
    """Adapters' settings with the size of the face pack's embeddings, ``pack()``, filled in.

    Raises:
        ConfigError: they name another size.
    """

    def of_the_pack(config: Config) -> Config:
        if not isinstance(config, ImagePromptSettings):
            return config
        if config.embedding not in (0, pack()):
            raise ConfigError(
                f"image_prompt.embedding is {config.embedding}, but the face pack's embeddings have {pack()} numbers",
                remedy="leave embedding out, or name the pack it belongs to",
            )
        return config.model_copy(update={"embedding": pack()})

    return {name: of_the_pack(config) for name, config in trainable.items()}


_BEFORE: WeakKeyDictionary[Any, _Wiring] = WeakKeyDictionary()  # network -> what load replaced


def load(pipeline: Any, folder: Path) -> None:
    """Put the adapter saved at ``folder`` on the pipeline.

    Raises:
        InputError: it is of another network.
        ConfigError: the pipeline has no UNet.
    """
    from safetensors.torch import load_file

    network = _unet(pipeline)
    state: State = {"image_proj": {}, "ip_adapter": {}}
    for name, value in load_file(folder / FILE).items():
        group, _, rest = name.partition(".")
        state[group][rest] = value
    if _shapes(state["ip_adapter"]) != _shapes(_fresh_attention(network)):
        raise InputError(f"{folder / FILE} is of another network", remedy="give the base model it was trained on")
    _BEFORE[network] = _Wiring.of(network)
    _put_on(network, state)
    for module in _Wiring.of(network).modules().values():
        module.requires_grad_(False)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


def unload(pipeline: Any) -> None:
    """Put the base model's wiring back."""
    network = network_of(pipeline)
    _BEFORE.pop(network).put_on(network)


PLAIN = f"pipeline.load_ip_adapter('FOLDER', subfolder='', weight_name='{FILE}', image_encoder_folder=None)"
ADAPTERS.add("image_prompt", Adapter(ImagePromptSettings, attach, FILE, load, unload, PLAIN), __name__)
