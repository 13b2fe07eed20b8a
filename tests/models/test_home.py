"""Models live at home, which may be a GPU, and all else on the CPU: nothing meets across, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from likeness.models import runtime
from likeness.models.encoders import DualEncoder
from likeness.models.families import latent_shape
from likeness.models.generator import encode_moments, generate, load_small_decoder
from likeness.models.policy import Policy
from likeness.rewards.base import Conditions
from likeness.rewards.identity import IdentityReward
from likeness.training.algorithm import Algorithm
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from pretend_device import NAME, PretendDevice, Pretended
from tiny import FAMILIES, tiny_decoder
from tiny_finetune import PACK
from tiny_pairs import red_pairs, toy_online, toy_paired
from tiny_rounds import policy_gradient, regression, selected
from tiny_training import PROMPTS, policy_of, toy_algorithm, toy_reward

ALGORITHMS: dict[str, Callable[[Policy], Algorithm]] = {
    "reward and denoising": toy_algorithm,
    "alignprop": lambda policy: toy_reward(policy, (1, 3), through="sample"),
    "policy gradient": lambda policy: policy_gradient(policy, kl=0.01),
    "reward regression": regression,
    "best of k": lambda policy: selected(policy, "best_of_k"),
    "pairs": lambda policy: toy_paired(policy, red_pairs(policy, 4), draws=2),
    "online pairs": toy_online,
}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(runtime.HOME, NAME)
    with PretendDevice():
        yield


@pytest.mark.usefixtures("elsewhere")
def test_the_pretended_device_is_one() -> None:
    here, there = torch.ones(2, 3), torch.ones(2, 3).to(NAME)
    with pytest.raises(RuntimeError, match="one device"):
        here + there
    assert isinstance(there + there, Pretended)
    assert torch.equal((there + there).cpu(), here + here)
    with pytest.raises(RuntimeError, match="one device"):
        torch.nn.Linear(3, 3).to(NAME)(here)


def trained(folder: Path, out: Path, name: str, **settings: object) -> tuple[Policy, dict[str, list[float]]]:
    policy = policy_of(folder, **settings)
    config = TrainerConfig(steps=2, batch=2, learning_rate=1e-2, ema_decay=0.5, checkpoint_every=1)
    return policy, Trainer(policy, ALGORITHMS[name](policy), config, 0, out).run().curves


QUICK = ("reward and denoising",)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ALGORITHMS])
def test_a_policy_away_from_the_cpu_learns_what_one_on_it_does(
    sd15_folder: Path, tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    _, here = trained(sd15_folder, tmp_path / "here", name)
    request.getfixturevalue("elsewhere")
    policy, there = trained(sd15_folder, tmp_path / "there", name)
    assert all(isinstance(p.data, Pretended) for p in policy.trainable().values())
    assert there.keys() == here.keys()
    for key, curve in here.items():
        assert there[key] == pytest.approx(curve, rel=1e-4, abs=1e-6), key


@pytest.mark.parametrize(
    "family", [f if f == "sd3_folder" else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES]
)
@pytest.mark.usefixtures("elsewhere")
def test_every_family_draws_and_learns_away_from_the_cpu(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    policy, curves = trained(folder, tmp_path, "reward and denoising", text_rank=2)
    assert len(curves["reward/red"]) == 2
    policy.save(tmp_path / "saved")
    images = generate(policy.pipeline, PROMPTS[:1], [0], steps=2, guidance_scale=2.0, batch=1)
    assert not isinstance(images, Pretended)
    assert not isinstance(encode_moments(policy.pipeline, images)[0], Pretended)


@pytest.mark.usefixtures("elsewhere")
def test_a_face_adapter_and_a_small_decoder_live_away_from_the_cpu_too(sd15_folder: Path, tmp_path: Path) -> None:
    policy, _ = trained(sd15_folder, tmp_path, "reward and denoising", trainable={"image_prompt": {"embedding": 16}})
    assert all(isinstance(p.data, Pretended) for p in policy.trainable().values())
    policy.small_decoder = load_small_decoder(tiny_decoder(tmp_path / "taesd"), policy.pipeline)
    assert not isinstance(policy.decode(torch.randn(1, *latent_shape(policy.pipeline))), Pretended)


def readings(clip: Path) -> dict[str, torch.Tensor]:
    """Of pictures with a gradient: what encoder and recogniser say, and the gradient of all of it."""
    images = torch.rand(2, 3, 80, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    encoder, embedder = DualEncoder.load(clip), IdentityReward.from_pack(PACK, 64).embedder
    keypoints = torch.tensor([[20.0, 30.0], [44.0, 30.0], [32.0, 42.0], [24.0, 52.0], [40.0, 52.0]]).expand(2, 5, 2)
    reward = IdentityReward(embedder, lambda images: (keypoints, torch.tensor([True, False])))
    told = Conditions(
        ("a", "b"), torch.nn.functional.normalize(torch.ones(2, embedder.embed(images, keypoints).shape[1]))
    )
    found = {
        "identity": reward(images, told),
        "images": encoder.images(images),
        "features": encoder.features(images),
        "patches": encoder.patches(images),
        "texts": encoder.texts(PROMPTS),
    }
    torch.stack([value.sum() for value in found.values()]).sum().backward()
    assert images.grad is not None
    return {name: value.detach() for name, value in found.items()} | {"slope": images.grad}


def test_what_looks_at_pictures_says_the_same_from_away(clip_folder: Path, request: pytest.FixtureRequest) -> None:
    here = readings(clip_folder)
    request.getfixturevalue("elsewhere")
    there = readings(clip_folder)
    for name, value in here.items():
        assert not isinstance(there[name], Pretended)
        torch.testing.assert_close(there[name], value, atol=1e-6, rtol=1e-5, msg=name)
