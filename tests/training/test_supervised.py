"""Denoising of given images: the cache changes the cost and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from likeness.models.policy import Policy
from likeness.training.algorithm import Slots, Stateless, StepOutput
from likeness.training.costs import step_flops
from likeness.training.plan import TrainerConfig
from likeness.training.supervised import LatentSet, Supervised
from likeness.training.trainer import Trainer
from tiny_training import PROMPTS, policy_of

BATCH = 4


@dataclass(frozen=True)
class Uncached(Stateless):
    """The same loss, each step with a set that was encoded for it."""

    images: torch.Tensor

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        return Supervised("denoising", LatentSet.encode(policy, self.images, PROMPTS)).step(policy, slots)


def images() -> torch.Tensor:
    return torch.rand(len(PROMPTS), 3, 64, 64, generator=torch.Generator().manual_seed(5))


def test_training_with_cached_moments_and_text_is_training_without_to_the_bit(
    sd15_folder: Path, tmp_path: Path
) -> None:
    config = TrainerConfig(steps=4, batch=BATCH, learning_rate=1e-2)
    trained = []
    for cached in (True, False):
        policy = policy_of(sd15_folder)
        algorithm = (
            Supervised("denoising", LatentSet.encode(policy, images(), PROMPTS)) if cached else Uncached(images())
        )
        Trainer(policy, algorithm, config, 0, tmp_path / str(cached)).run()
        trained.append(policy.trainable())
    start = policy_of(sd15_folder).trainable()
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in start)
    assert any(not torch.equal(trained[0][name], start[name]) for name in start)


def test_the_cost_of_a_step_is_one_forward_and_backward_a_sample(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    algorithm = Supervised("denoising", LatentSet.encode(policy, images(), PROMPTS))
    flops = step_flops(algorithm, policy, Slots(0, 0, 0, BATCH))
    assert policy.counts.as_dict() == {"unet_forwards": BATCH, "unet_backwards": BATCH, "decodes": 0}
    assert step_flops(algorithm, policy, Slots(0, 1, 0, 2 * BATCH)) == 2 * flops
    assert step_flops(Uncached(images()), policy, Slots(0, 0, 0, BATCH)) > flops


def test_min_snr_weights_the_prediction_error(sd15_folder: Path) -> None:
    """gamma below every SNR of the path: the weight of eps is gamma / SNR, that of v gamma / (SNR + 1)."""
    policy = policy_of(sd15_folder)
    data, slots, gamma = LatentSet.encode(policy, images(), PROMPTS), Slots(0, 0, 0, BATCH), 1e-9
    plain = Supervised("denoising", data).step(policy, slots).loss
    weighted = Supervised("denoising", data, gamma).step(policy, slots).loss
    snr = policy.path.snr(policy.path.draw(slots.uniform("denoising/timestep")))
    assert bool((snr > gamma).all())
    torch.testing.assert_close(weighted, plain * gamma / (snr + 1), rtol=1e-4, atol=0)


@pytest.mark.parametrize("count", [1, 3])
def test_a_drawn_latent_is_the_moments_and_no_more(sd15_folder: Path, count: int) -> None:
    policy = policy_of(sd15_folder)
    data = LatentSet.encode(policy, images()[:count], PROMPTS[:count])
    index, noise = torch.tensor([count - 1]), torch.ones(1, *data.mean.shape[1:])
    assert torch.equal(data.draw(index, 0 * noise), data.mean[-1:])
    assert torch.equal(data.draw(index, noise), data.mean[-1:] + data.deviation[-1:])
