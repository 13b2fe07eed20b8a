"""The trainer's laws: what moves, what does not, accumulation, resume, refusal of non-finite numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from likeness.core.errors import TrainingError
from likeness.core.io import digest_file
from likeness.models.adapters.lora import FILE as LORA_FILE
from likeness.models.policy import Policy
from likeness.training.algorithm import Algorithm, Combined, Memory, Slots, StepOutput
from likeness.training.checkpoint import FOLDER, load_checkpoint
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer, rate_factor
from tiny_training import Wrapped, disturb, gradients, policy_of, run_step, state, toy_algorithm, toy_denoising

CONFIG = TrainerConfig(steps=6, batch=2, learning_rate=1e-3, checkpoint_every=2, ema_decay=0.5, warmup=3)


class Interrupted(Wrapped):
    """Stops the run at one step, as a kill would, after the checkpoints before it."""

    def __init__(self, inner: Algorithm, at: int) -> None:
        super().__init__(inner)
        self.at = at

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        if slots.step == self.at:
            raise KeyboardInterrupt
        return self.inner.step(policy, slots)


def train(
    folder: Path, out: Path, config: TrainerConfig, build: Callable[[Policy], Algorithm] = toy_algorithm
) -> tuple[Policy, Trainer]:
    torch.manual_seed(torch.seed() % 1000)  # the global generator must not matter
    policy = policy_of(folder)
    trainer = Trainer(policy, build(policy), config, seed=3, out=out)
    trainer.run()
    policy.save(out)
    return policy, trainer


@pytest.mark.parametrize("family", ["sd15_folder", "sdxl_folder"])
def test_training_moves_the_lora_and_leaves_everything_else_bit_identical(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    policy = policy_of(request.getfixturevalue(family))
    names = {name.removeprefix("unet.") for name in policy.trainable()}
    assert names
    assert all("lora_" in name for name in names)
    frozen_vae = [p.clone() for p in policy.pipeline.vae.parameters()]
    before = state(policy)
    Trainer(policy, toy_algorithm(policy), CONFIG.model_copy(update={"steps": 2}), 0, tmp_path).run()
    after = state(policy)
    # B moves at the first step, A only once B is no longer 0.
    assert all(not torch.equal(before[name], after[name]) for name in names)
    assert all(torch.equal(before[name], after[name]) for name in set(before) - names)
    assert all(torch.equal(a, b) for a, b in zip(frozen_vae, policy.pipeline.vae.parameters(), strict=True))


@pytest.mark.parametrize("killed_at", [3, *(pytest.param(at, marks=pytest.mark.slow) for at in (1, 4, 5))])
def test_a_killed_run_resumes_to_the_bits_of_an_undisturbed_one(
    sd15_folder: Path, tmp_path: Path, killed_at: int
) -> None:
    whole, trainer = train(sd15_folder, tmp_path / "whole", CONFIG)
    with pytest.raises(KeyboardInterrupt):
        train(sd15_folder, tmp_path / "cut", CONFIG, lambda policy: Interrupted(toy_algorithm(policy), killed_at))
    (tmp_path / "cut" / FOLDER).mkdir(parents=True, exist_ok=True)
    (tmp_path / "cut" / FOLDER / "step-00000099.safetensors.incomplete").write_bytes(b"half-written")
    resumed, again = train(sd15_folder, tmp_path / "cut", CONFIG)
    assert again.history.curves == trainer.history.curves
    assert resumed.counts == whole.counts
    assert digest_file(tmp_path / "cut" / LORA_FILE) == digest_file(tmp_path / "whole" / LORA_FILE)


class Recording(Wrapped):
    """Keeps the weights that each step starts with."""

    def prepare(self, policy: Policy, slots: Slots) -> None:
        self.seen = [*getattr(self, "seen", []), {n: p.detach().clone() for n, p in policy.trainable().items()}]
        self.inner.prepare(policy, slots)


def test_a_run_ends_with_the_running_average_of_its_weights(sd15_folder: Path, tmp_path: Path) -> None:
    """From the weights it began with: halfway to those of each step, in turn."""
    policy = policy_of(sd15_folder)
    algorithm = Recording(toy_denoising(policy))
    Trainer(policy, algorithm, CONFIG, 0, tmp_path).run()
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    weights = [*algorithm.seen, checkpoint.group("policy")]
    assert len(weights) == CONFIG.steps + 1
    for name, kept in policy.trainable().items():
        average = weights[0][name]
        for later in weights[1:]:
            average = (average + later[name]) / 2
        torch.testing.assert_close(kept.detach(), average)
        assert not torch.equal(kept, weights[-1][name])


def test_one_checkpoint_is_kept_and_holds_the_last_step(sd15_folder: Path, tmp_path: Path) -> None:
    train(sd15_folder, tmp_path, CONFIG, toy_denoising)
    assert [p.name for p in (tmp_path / FOLDER).iterdir()] == ["step-00000006.safetensors"]
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.state["step"] == 6
    assert {key.partition("/")[0] for key in checkpoint.tensors} == {"policy", "ema", "moment"}


def test_the_rate_rises_and_falls_as_asked() -> None:
    def curve(**settings: object) -> list[float]:
        config = TrainerConfig.model_validate({"steps": 6, "warmup": 2} | settings)
        return [rate_factor(config, step) for step in range(6)]

    assert curve() == [0.5, 1, 1, 1, 1, 1]
    assert curve(decay="linear") == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0.25])
    assert curve(decay="cosine") == pytest.approx([0.5, 1, 1, 0.853553, 0.5, 0.146447], abs=1e-6)


@pytest.mark.parametrize("micro_batch", [3, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 2))])
def test_splitting_a_step_changes_nothing(sd15_folder: Path, tmp_path: Path, micro_batch: int) -> None:
    config = TrainerConfig(steps=2, batch=4, learning_rate=1e-3)
    whole, one = train(sd15_folder, tmp_path / "one", config)
    split, many = train(sd15_folder, tmp_path / "many", config.model_copy(update={"micro_batch": micro_batch}))
    assert split.counts == whole.counts
    for name, curve in one.history.curves.items():
        assert many.history.curves[name] == pytest.approx(curve, rel=2e-3, abs=1e-5), name


def test_a_step_draws_the_same_whatever_came_before(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    algorithm = toy_algorithm(policy)
    first = run_step(algorithm, policy, Slots(1, 7, 0, 2)).loss
    torch.manual_seed(99)
    run_step(algorithm, policy, Slots(1, 8, 0, 2))
    torch.testing.assert_close(run_step(algorithm, policy, Slots(1, 7, 0, 2)).loss, first, rtol=0, atol=0)
    assert not torch.equal(run_step(algorithm, policy, Slots(2, 7, 0, 2)).loss, first)


def test_what_an_algorithm_remembers_comes_back_with_the_checkpoint(sd15_folder: Path, tmp_path: Path) -> None:
    """A loss that depends on all steps so far: forgetting any of it at a resume would show."""

    class Remembers(Wrapped):
        total, seen = torch.zeros(1), 0

        def step(self, policy: Policy, slots: Slots) -> StepOutput:
            output = self.inner.step(policy, slots)
            self.total, self.seen = self.total + output.loss.detach().sum(), self.seen + 1
            return StepOutput(output.loss * (1 + self.total) / self.seen, output.metrics)

        def memory(self) -> Memory:
            return Memory({"total": self.total}, {"seen": self.seen})

        def restore(self, memory: Memory) -> None:
            self.total, self.seen = memory.tensors["total"], int(memory.values["seen"])

    def build(policy: Policy) -> Algorithm:
        return Combined({"a": (1.0, Remembers(toy_denoising(policy))), "b": (2.0, toy_denoising(policy))})

    whole, _ = train(sd15_folder, tmp_path / "whole", CONFIG, build)
    with pytest.raises(KeyboardInterrupt):
        train(sd15_folder, tmp_path / "cut", CONFIG, lambda policy: Interrupted(build(policy), 4))
    resumed, _ = train(sd15_folder, tmp_path / "cut", CONFIG, build)
    for name, value in whole.trainable().items():
        assert torch.equal(value, resumed.trainable()[name])


def test_a_loss_that_is_not_finite_names_its_step(sd15_folder: Path, tmp_path: Path) -> None:
    class Broken(Wrapped):
        def step(self, policy: Policy, slots: Slots) -> StepOutput:
            output = self.inner.step(policy, slots)
            return StepOutput(output.loss / (slots.step - 1), output.metrics)

    policy = policy_of(sd15_folder)
    before = state(policy)
    with pytest.raises(TrainingError, match=r"step 2, .*loss/total of sample 0, 1") as caught:
        Trainer(policy, Broken(toy_denoising(policy)), CONFIG, 0, tmp_path).run()
    assert "learning_rate" in caught.value.remedy
    assert all(torch.isfinite(value).all() for value in state(policy).values() if value.is_floating_point())
    assert before.keys() == state(policy).keys()


def one_gradient(
    folder: Path, out: Path, build: Callable[[Policy], Algorithm], **settings: object
) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-sample losses (4,) of a trained policy's next step, and their gradient, as a trainer so set sees them."""
    policy = policy_of(folder)
    algorithm = build(policy)
    Trainer(policy, algorithm, CONFIG.model_copy(update=settings), 0, out)
    disturb(policy)
    loss = run_step(algorithm, policy, Slots(0, 0, 0, 4)).loss
    assert {parameter.dtype for parameter in policy.trainable().values()} == {torch.float32}
    return loss.detach(), gradients(policy, loss)


@pytest.mark.parametrize(
    ("build", "settings", "closeness"),
    [
        (toy_algorithm, {"precision": "bf16"}, 0.995),
        pytest.param(toy_denoising, {"compile": True}, 0.999999, marks=pytest.mark.slow),
    ],
)
def test_what_makes_a_step_faster_leaves_its_gradient(
    sd15_folder: Path,
    tmp_path: Path,
    build: Callable[[Policy], Algorithm],
    settings: dict[str, object],
    closeness: float,
) -> None:
    """The weights stay float32, the gradient points the same way; that it is not the same bits shows that it was on."""
    plain_loss, plain = one_gradient(sd15_folder, tmp_path / "plain", build)
    loss, gradient = one_gradient(sd15_folder, tmp_path / "fast", build, **settings)
    torch.testing.assert_close(loss, plain_loss, atol=0.02, rtol=0.02)
    assert not torch.equal(gradient, plain)
    assert torch.nn.functional.cosine_similarity(gradient.double(), plain.double(), dim=0) >= closeness
    assert gradient.norm() == pytest.approx(float(plain.norm()), rel=0.02)
