"""One place that fixes torch's determinism, where its models live, and what its libraries say while they load.

Frozen models and the policy live at :func:`home`; everything else (latents, noise, losses, statistics) stays on the
CPU. Each model takes its inputs home and brings its outputs back to where they came from, so nothing but models knows
of devices, and every draw is the CPU's. What crosses is small beside a forward: latents, pictures, conditioning.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import device

HOME = "LIKENESS_DEVICE"


def torch_session(seed: int, threads: int) -> None:
    """Seed torch, fix its thread count and ask for deterministic kernels.

    The number of threads changes the order of float sums, so it is a parameter of every torch step.
    """
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(seed)


def home() -> device:
    """Where models live: what ``LIKENESS_DEVICE`` says (``cpu``, ``cuda:1``), else this process's GPU, else the CPU."""
    import torch

    named = os.environ.get(HOME)
    if named:
        return torch.device(named)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def arithmetic(where: device) -> dict[str, str | int]:
    """What the last bits of a forward on ``where`` depend on, besides its inputs."""
    import torch

    found: dict[str, str | int] = {"torch": torch.__version__, "device": where.type}
    if where.type == "cuda":
        return found | {"name": torch.cuda.get_device_name(where)}
    return found | {"cpu": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without the bars and remarks of diffusers and transformers about parts they load: they come once a model."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in libraries]
    for log in libraries:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, verbosity, bars in before:
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
