"""Peak memory of a training step with a reference model, at SD1.5's size on the meta device: no weights, no device.

    python benchmarks/memory.py --out benchmarks/results/memory.json

Live bytes of all tensors are followed through a step of LoRA training: a forward, a loss, the backward pass. The
reference is the network with its adapters off (our way), or a second copy of it (what that saves). Attention is counted
as plain products, whose score matrices a fused kernel would not hold: the peaks are upper bounds, for all three alike.
"""

from __future__ import annotations

import argparse
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costs import add_lora
from published import Published, published

if TYPE_CHECKING:
    from torch import Tensor


def peak_bytes(run: Callable[[], Any], *held: Any) -> int:
    """The most bytes that the parameters of modules ``held`` and the tensors made in ``run`` take at one time."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map_only

    storages = [p.untyped_storage() for module in held for p in module.parameters()]
    known = {storage._cdata: storage.nbytes() for storage in storages}
    live = peak = int(sum(known.values()))

    def free(key: int) -> None:
        nonlocal live
        live -= known.pop(key)

    def follow(tensor: Tensor) -> Tensor:
        nonlocal live, peak
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in known:
            known[key] = storage.nbytes()
            live += known[key]
            peak = max(peak, live)
            weakref.finalize(storage, free, key)
        return tensor

    class Follow(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            return tree_map_only(torch.Tensor, follow, func(*args, **(kwargs or {})))

    with Follow():  # type: ignore[no-untyped-call]
        run()
    return peak


def step(model: Published, reference: Callable[[], Tensor] | None) -> None:
    """One step: a squared error, less that of the reference where there is one (DPO's margin, half of it)."""
    import torch

    error = model.predict().square().mean()
    if reference is not None:
        with torch.no_grad():
            known = reference().square().mean()
        error = error - known
    error.backward()


def peaks(name: str, batch: int) -> dict[str, float]:
    """GiB at the peak of a step of ``batch`` samples: without reference, with adapters off, with a copy."""
    model = published(name).of(batch)
    copy = deepcopy(model)
    add_lora(model.network, model.family)

    def off() -> Tensor:
        model.network.disable_adapters()
        try:
            return model.predict()
        finally:
            model.network.enable_adapters()

    ways: Mapping[str, tuple[Callable[[], Tensor] | None, Sequence[Any]]] = {
        "no reference": (None, [model.network]),
        "adapters off": (off, [model.network]),
        "a copy": (copy.predict, [model.network, copy.network]),
    }
    found = {}
    for way, (reference, held) in ways.items():
        model.network.zero_grad(set_to_none=True)
        found[way] = round(peak_bytes(partial(step, model, reference), *held) / 2**30, 3)
    return found


def main() -> None:
    """Follow, print, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="SD1.5")
    parser.add_argument("--batch", type=int, default=2, help="samples a step")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    found = peaks(arguments.model, arguments.batch)
    print("| reference | peak GiB | of no reference |\n|---|--:|--:|")
    for way, value in found.items():
        print(f"| {way} | {value:.2f} | {value / found['no reference']:.3f} |")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        record = {"model": arguments.model, "batch": arguments.batch, "peak_gib": found}
        arguments.out.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
