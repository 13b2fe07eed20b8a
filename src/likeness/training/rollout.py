"""Rollouts: denoising without gradient, keeping what a loss will come back to.

Shapes: N rollouts, S steps of the chain, C h w latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likeness.models.families import Conditioning

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.diffusion.path import Chain
    from likeness.models.policy import Policy


def denoise(
    policy: Policy, noise: Tensor, conditioning: Conditioning, chain: Chain, wanted: Tensor
) -> dict[tuple[int, int], Tensor]:
    """Latents on the way of a deterministic rollout, without gradient and without guidance.

    Args:
        noise: (N, C, h, w).
        wanted: (N, S + 1) bool: before which step of the chain the latents are asked for; the last column stands for
            the clean latents after it.

    Returns:
        (rollout, step) -> (C, h, w). A rollout stops after its last latents: later steps cost nothing.
    """
    import torch

    found: dict[tuple[int, int], Tensor] = {}
    latents = noise.clone()
    last = torch.tensor([int(row.nonzero().max()) if row.any() else -1 for row in wanted])
    end = policy.most(int(last.max()))
    with torch.no_grad():
        for step in range(end + 1):
            found |= {(row, step): latents[row].clone() for row in wanted[:, step].nonzero().flatten().tolist()}
            if step < end:
                latents = move_some(policy, latents, last > step, chain[step], conditioning)
    return found


def move_some(
    policy: Policy, latents: Tensor, active: Tensor, step: tuple[float, float], conditioning: Conditioning
) -> Tensor:
    """``latents`` (B, C, h, w) with one step of the chain taken by the rows that are ``active`` (B,) bool.

    Where none is, the network is called all the same and its answer dropped: another process may be in this step.
    """
    rows = active.nonzero().flatten()
    called = rows if len(rows) else active.new_zeros(1).long()
    moved = move(policy, latents[called], step, conditioning.take(called))
    return latents.index_copy(0, rows, moved[: len(rows)])


def move(policy: Policy, x_t: Tensor, step: tuple[float, float], conditioning: Conditioning) -> Tensor:
    """One deterministic step of the chain for all of ``x_t`` (B, C, h, w)."""
    t, t_next = (policy.path.times([value] * len(x_t)) for value in step)
    return policy.path.transition(policy.predict(x_t, t, conditioning), x_t, t, t_next).mean


def finish(policy: Policy, noise: Tensor, conditioning: Conditioning, chain: Chain) -> Tensor:
    """Clean latents (N, C, h, w) at the end of deterministic rollouts, without gradient."""
    import torch

    with torch.no_grad():
        for step in chain:
            noise = move(policy, noise, step, conditioning)
    return noise


@dataclass(frozen=True)
class Trajectories:
    """Stochastic rollouts. ``latents``: (N, S, C, h, w), ``latents[:, s]`` before step s and after step s - 1;
    ``log_probs``: (N, S - 1) of each step under the policy that took it; ``x0``: (N, C, h, w) after the last step.

    The last step of a chain draws no noise and so has no density: of S steps, S - 1 are learnt from.
    """

    latents: Tensor
    log_probs: Tensor
    x0: Tensor


def sample_trajectories(
    policy: Policy, noises: Sequence[Tensor], conditioning: Conditioning, chain: Chain, eta: float
) -> Trajectories:
    """Sample the chain with noise of strength ``eta``, without gradient and without guidance.

    ``noises``: S tensors (N, C, h, w): the start, then what each step but the last draws.
    """
    import torch

    latents, log_probs = [noises[0]], []
    with torch.no_grad():
        for step, noise in zip(chain[:-1], noises[1:], strict=True):
            x_t = latents[-1]
            t, t_next = (policy.path.times([value] * len(x_t)) for value in step)
            transition = policy.path.transition(policy.predict(x_t, t, conditioning), x_t, t, t_next, eta)
            latents.append(transition.sample(noise))
            log_probs.append(transition.log_prob(latents[-1]))
        x0 = move(policy, latents[-1], chain[-1], conditioning)
    return Trajectories(torch.stack(latents, 1), torch.stack(log_probs, 1), x0)


def log_probs_of(policy: Policy, latents: Tensor, conditioning: Conditioning, chain: Chain, eta: float) -> Tensor:
    """Log densities (N, S - 1) of trajectories ``latents`` (N, S, C, h, w) under the policy as it is, with gradient."""
    import torch

    found = []
    for index, step in enumerate(chain[:-1]):
        x_t = latents[:, index]
        t, t_next = (policy.path.times([value] * len(x_t)) for value in step)
        transition = policy.path.transition(policy.predict(x_t, t, conditioning), x_t, t, t_next, eta)
        found.append(transition.log_prob(latents[:, index + 1]))
    return torch.stack(found, 1)
