"""One place that fixes torch's determinism."""

from __future__ import annotations


def torch_session(seed: int, threads: int) -> None:
    """Seed torch, fix its thread count and ask for deterministic kernels.

    The number of threads changes the order of float sums, so it is a parameter of every torch step.
    """
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(seed)
