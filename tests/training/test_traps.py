"""Mistakes that released code of these methods makes, each shown not to be made here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from likeness.models.embedded.portraits import draw, persons
from likeness.models.faces.pack import recogniser_digest
from likeness.models.policy import Policy
from likeness.objectives.policy_gradient import clipped
from likeness.rewards.base import Conditions
from likeness.rewards.identity import IdentityReward
from likeness.training.algorithm import Slots, Stateless, StepOutput
from likeness.training.plan import RECIPES, Plan, TrainerConfig
from likeness.training.policy_gradient import PolicyGradientSettings
from likeness.training.trainer import Trainer
from rendered import pixels
from tiny_training import policy_of, toy_denoising

REPOSITORY = Path(__file__).parents[2]
PACK = REPOSITORY / "assets/embedded/faces/models/portraits"


def plans() -> dict[str, Plan]:
    return {name: RECIPES.get(name).plan() for name in RECIPES}


def test_refl_keeps_the_pre_training_loss_that_its_script_forgot() -> None:
    """The paper's eq. 4 has it; without it users got worse than the untrained model (zai-org/ImageReward issue 95)."""
    losses = plans()["refl"].losses
    assert losses["prior"]["weight"] > 0
    assert losses["reward_backprop"]["weight"] > 0


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_ratio_that_was_led_astray_still_finds_its_way_back(advantage: float) -> None:
    """D3PO clamps the ratios themselves: once outside, on whichever side, nothing pulls them back.

    Here a bad picture that became likelier, or a good one that became less likely, keeps its whole gradient.
    """
    clip = PolicyGradientSettings().clip
    log_ratio = torch.tensor([-0.5 * advantage], requires_grad=True)  # far on the wrong side
    loss = clipped(log_ratio, torch.zeros(1), torch.tensor([advantage]), clip)
    (gradient,) = torch.autograd.grad(loss.sum(), log_ratio)
    assert gradient.item() == pytest.approx(-advantage * float(log_ratio.detach().exp()))
    clamped = -advantage * log_ratio.exp().clamp(1 - clip, 1 + clip)
    assert torch.autograd.grad(clamped.sum(), log_ratio)[0].item() == 0  # what the trap does


@pytest.mark.parametrize("clip", [1e-4, 0.1])
def test_the_clip_range_is_the_one_that_was_asked_for(clip: float) -> None:
    """D3PO's code says 0.1 and has 0.2 (yk7333/d3po issue 4)."""
    for advantage in (1.0, -1.0):
        edge = torch.tensor([1 + advantage * clip]).log()  # where a good picture's range ends, or a bad one's
        for within, inside in ((0.9, True), (1.1, False)):
            log_ratio = (edge * within).requires_grad_()
            loss = clipped(log_ratio, torch.zeros(1), torch.tensor([advantage]), clip)
            (gradient,) = torch.autograd.grad(loss.sum(), log_ratio)
            assert (gradient.item() != 0) is inside


class Uneven(Stateless):
    """A loss, with one outstanding reward among four."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        rewards = torch.tensor([0.0, -2.0, 10.0, 0.0])[slots.first : slots.first + slots.count]
        metrics: Mapping[str, torch.Tensor] = {"reward/uneven": rewards}
        return StepOutput(self.inner.step(policy, slots).loss, metrics)


@pytest.mark.parametrize("micro_batch", [0, 1, 3])
def test_the_reward_that_is_logged_is_the_mean_and_not_the_best(
    sd15_folder: Path, tmp_path: Path, micro_batch: int
) -> None:
    """D3PO logged the maximum (yk7333/d3po issue 4), which rises with the batch's size alone."""
    policy = policy_of(sd15_folder)
    config = TrainerConfig(steps=1, batch=4, micro_batch=micro_batch)
    history = Trainer(policy, Uneven(toy_denoising(policy)), config, 0, tmp_path).run()
    assert history.curves["reward/uneven"] == [2.0]


def portraits(count: int) -> torch.Tensor:
    pictures = [pixels(portrait) for portrait in draw(count, 7, persons()[100:101])]
    return torch.stack([torch.tensor(picture).permute(2, 0, 1).float() / 255 for picture in pictures])


def test_a_face_that_cannot_be_found_is_the_worst_and_not_left_out() -> None:
    """ID-Booth skips such pictures: a policy could raise the mean of the rest by hiding faces."""
    reward = IdentityReward.from_pack(PACK, det_size=64)
    images = portraits(3)
    keypoints, found = reward.find(images)
    assert found.all()
    mine = torch.nn.functional.normalize(reward.embedder.embed(images, keypoints).mean(0), dim=0)
    conditions = Conditions(("",) * 3, mine.expand(3, -1))
    seen = reward(images, conditions)
    hidden = images.clone()
    hidden[int(seen.argmin())] = 0.5
    again = reward(hidden, conditions)
    assert len(again) == 3
    assert again.min() == 0
    assert again.mean() < seen.mean()


def test_the_identity_reward_reaches_the_pixels_although_insightface_has_no_gradient() -> None:
    """Detection may be without gradient; alignment and recogniser are torch, and say what insightface says."""
    reward = IdentityReward.from_pack(PACK, det_size=64)
    images = portraits(2).requires_grad_()
    keypoints, _ = reward.find(images)
    assert not keypoints.requires_grad
    other = torch.nn.functional.normalize(torch.randn(1, reward.embedder.embed(images, keypoints).shape[1]), dim=1)
    value = reward(images, Conditions(("",) * 2, other.expand(2, -1)))
    (gradient,) = torch.autograd.grad(value.sum(), images)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()
    pushed = reward(
        images.detach() + 1e-2 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1),
        Conditions(("",) * 2, other.expand(2, -1)),
    )
    assert (pushed > value.detach()).all()


def test_no_profile_of_ours_judges_by_the_recogniser_that_rewards() -> None:
    """ID-Aligner's text does not separate them. evaluate refuses it too, for everybody's packs."""
    compared = 0
    for params in (REPOSITORY / "params.yaml", *sorted(REPOSITORY.glob("profiles/*/params.yaml"))):
        sources = yaml.safe_load(params.read_text("utf-8")).get("sources", {})
        if not {"faces", "judge_faces"} <= sources.keys():
            continue
        assert sources["faces"] != sources["judge_faces"], params
        packs = [REPOSITORY / sources[name] for name in ("faces", "judge_faces")]
        if all(pack.is_dir() for pack in packs):
            assert recogniser_digest(packs[0]) != recogniser_digest(packs[1]), params
            compared += 1
    assert compared >= 2
