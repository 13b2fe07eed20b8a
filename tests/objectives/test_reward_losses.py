"""ID-Aligner's losses against the paper's equations written out anew."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from likeness.objectives.regression import denoising_mse
from likeness.objectives.reward import shortfall, weighted_sum


def test_denoising_loss_is_the_mean_square_of_each_sample() -> None:
    prediction, target = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    target[0, 0, 0, 0], target[1] = 2.0, 3.0
    assert denoising_mse(prediction, target).tolist() == [1.0, 9.0]


def test_the_total_is_equation_9_derived_by_hand() -> None:
    """Two samples; embeddings at 0 and 60 degrees to the reference; appeal 2 and -1, structure 1 and 3."""
    alpha_1, alpha_2 = 0.2, 0.001
    faces, reference = [(1.0, 0.0), (math.cos(math.pi / 3), math.sin(math.pi / 3))], (1.0, 0.0)
    appeal, structure = [2.0, -1.0], [1.0, 3.0]
    expected = []
    for face, r_appeal, r_struct in zip(faces, appeal, structure, strict=True):
        cosine = sum(a * b for a, b in zip(face, reference, strict=True))  # eq. 2 to 4, unit vectors
        loss_similarity = 1 - cosine  # eq. 7
        loss_aesthetic = -(r_appeal + r_struct)  # eq. 6 and 8
        expected.append(alpha_1 * loss_similarity + alpha_2 * loss_aesthetic)  # eq. 9
    cosine_B = functional.cosine_similarity(torch.tensor(faces), torch.tensor([reference]))
    losses = [shortfall(cosine_B, 1.0), shortfall(torch.tensor(appeal)), shortfall(torch.tensor(structure))]
    torch.testing.assert_close(weighted_sum(losses, [alpha_1, alpha_2, alpha_2]), torch.tensor(expected))


def test_a_missed_face_costs_the_constant_one_and_has_no_gradient() -> None:
    reward_B = torch.tensor([0.0, 0.4]) * torch.tensor([0.0, 1.0])
    reward_B.requires_grad_()
    loss = shortfall(reward_B, 1.0)
    assert loss.tolist() == [1.0, 0.6000000238418579]


def test_permuting_the_batch_permutes_the_losses() -> None:
    prediction, target, order = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        denoising_mse(prediction[order], target[order]), denoising_mse(prediction, target)[order]
    )
