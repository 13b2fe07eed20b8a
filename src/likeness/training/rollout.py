"""The reward rollout: denoise without gradient to a random late step, then take one step with gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from likeness.models.generator import Conditioning

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.policy import Policy


def denoise_to(
    policy: Policy, noise: Tensor, conditioning: Conditioning, chain: tuple[tuple[int, int], ...], stop: Tensor
) -> Tensor:
    """Latents (B, C, h, w) after ``stop[b]`` of the chain's DDIM steps, without gradient and without guidance.

    Samples that have stopped are left out of later forwards.
    """
    import torch

    latents = noise.clone()
    with torch.no_grad():
        for index, (t, t_next) in enumerate(chain[: int(stop.max())]):
            active = (stop > index).nonzero().flatten()
            at, after = torch.full_like(active, t), torch.full_like(active, t_next)
            x_t = latents[active]
            prediction = policy.predict(x_t, at, conditioning.take(active))
            latents[active] = policy.path.ddim_step(prediction, x_t, at, after)
    return latents


def predict_clean(
    policy: Policy, noise: Tensor, conditioning: Conditioning, chain: tuple[tuple[int, int], ...], stop: Tensor
) -> Tensor:
    """x0' (B, C, h, w): the chain up to step ``stop`` without gradient, the x0 prediction there with gradient."""
    import torch

    latents = denoise_to(policy, noise, conditioning, chain, stop)
    t = torch.tensor([t for t, _ in chain])[stop]
    return policy.path.to_x0(policy.predict(latents, t, conditioning), latents, t)
