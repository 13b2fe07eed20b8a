from __future__ import annotations

from pathlib import Path

import pytest
import torch

from likeness.core.errors import PackError
from likeness.models.embedded.corpus import people
from likeness.models.embedded.portraits import draw
from likeness.rewards.base import Conditions
from likeness.rewards.identity import IdentityReward
from rendered import pixels

PACK = Path(__file__).parents[2] / "assets/embedded/faces/models/portraits"
pytestmark = pytest.mark.skipif(not PACK.is_dir(), reason="the embedded face pack is not built")


@pytest.fixture
def reward() -> IdentityReward:
    return IdentityReward.from_pack(PACK, det_size=64)


def portraits(person: int, count: int = 3) -> torch.Tensor:
    pictures = [pixels(portrait) for portrait in draw(count, 7, [people("reserved")[person]])]
    return torch.stack([torch.tensor(picture).permute(2, 0, 1).float() / 255 for picture in pictures])


def embeddings(reward: IdentityReward, images: torch.Tensor) -> torch.Tensor:
    keypoints, found = reward.find(images)
    assert found.all()
    return reward.embedder.embed(images, keypoints)


def asked(reference: torch.Tensor, count: int) -> Conditions:
    unit = reference / reference.norm()
    return Conditions(("",) * count, unit.expand(count, -1))


def test_the_same_person_is_worth_more_than_another(reward: IdentityReward) -> None:
    mine, other = portraits(0), portraits(1)
    conditions = asked(embeddings(reward, mine).mean(0), 3)
    assert reward(mine, conditions).min() > reward(other, conditions).max()
    assert reward(mine, conditions).max() <= 1 + 1e-6


def test_the_reference_itself_is_worth_1(reward: IdentityReward) -> None:
    image = portraits(2, count=1)
    value = reward(image, asked(embeddings(reward, image)[0], 1))
    assert float(value) == pytest.approx(1.0, abs=1e-5)


def test_a_missing_face_is_worth_0_without_gradient_and_is_counted(reward: IdentityReward) -> None:
    images = torch.cat([portraits(0, 1), torch.full((1, 3, 64, 64), 0.5), portraits(1, 1)]).requires_grad_()
    conditions = asked(torch.ones(embeddings(reward, portraits(0, 1)).shape[1]), 3)
    value = reward(images, conditions)
    value.sum().backward()
    assert value[1] == 0
    assert images.grad is not None
    assert images.grad[1].abs().max() == 0
    assert (images.grad[[0, 2]].abs().amax(dim=(1, 2, 3)) > 0).all()
    assert torch.isfinite(images.grad).all()
    assert (reward.seen, reward.missed) == (3, 1)
    assert reward.miss_rate == pytest.approx(1 / 3)


def test_a_batch_without_any_face_can_still_go_backward(reward: IdentityReward) -> None:
    images = torch.zeros(2, 3, 64, 64, requires_grad=True)
    value = reward(images, asked(torch.ones(128), 2))
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert images.grad is not None
    assert images.grad.abs().max() == 0


def test_permuting_the_batch_permutes_the_rewards(reward: IdentityReward) -> None:
    images = torch.cat([portraits(0, 1), torch.zeros(1, 3, 64, 64), portraits(1, 1)])
    references = torch.nn.functional.normalize(embeddings(reward, torch.cat([portraits(i, 1) for i in range(3)])))
    order = [2, 0, 1]
    straight = reward(images, Conditions(("",) * 3, references))
    permuted = reward(images[order], Conditions(("",) * 3, references[order]))
    assert torch.allclose(straight[order], permuted, atol=1e-5)


def test_no_reference_is_a_programming_error(reward: IdentityReward) -> None:
    with pytest.raises(ValueError, match="reference_embeddings"):
        reward(portraits(0, 1), Conditions(("",)))


def test_a_pack_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="nowhere"):
        IdentityReward.from_pack(tmp_path / "nowhere")
