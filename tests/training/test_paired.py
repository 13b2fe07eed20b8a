"""Learning from pairs that are given: the battery, the caches, the cost, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from likeness.core.errors import ConfigError, InputError, UnknownNameError
from likeness.core.io import digest_file
from likeness.models.adapters.lora import FILE as LORA_FILE
from likeness.models.generator import encode_moments
from likeness.models.policy import Counts, Policy
from likeness.preferences.pairs import write_preferences
from likeness.training.algorithm import Slots
from likeness.training.pair_set import PairSet
from likeness.training.paired import Paired, PairedSettings, wanted
from likeness.training.pairs import PairDraws
from likeness.training.plan import TrainerConfig
from likeness.training.rollout import denoise
from likeness.training.trainer import Trainer
from tiny_pairs import (
    BATCH,
    BUILDS,
    QUICK,
    drawn_pairs,
    pixels,
    preference,
    red_pairs,
    redness,
    toy_paired,
)
from tiny_training import PROMPTS, disturb, gradients, policy_of, run_step, state


def sampled_redness(policy: Policy, count: int = 16) -> torch.Tensor:
    """Of pictures of the toy prompts, at the same noise whenever it is asked."""
    noise = torch.randn(count, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    wanted = torch.zeros(count, 5, dtype=torch.bool)
    wanted[:, -1] = True
    conditioning = policy.encode(policy.prompts(PROMPTS), torch.arange(count) % len(PROMPTS))
    found = denoise(policy, noise, conditioning, policy.path.chain(4), wanted)
    with torch.no_grad():
        return redness(policy.decode(torch.stack([found[row, 4] for row in range(count)])))


def test_redder_pictures_follow_from_pairs_in_thirty_steps_and_nothing_frozen_moves(
    sd15_folder: Path, tmp_path: Path
) -> None:
    policy = policy_of(sd15_folder)
    data = red_pairs(policy)
    chosen, rejected = redness(policy.decode(data.mean))[data.rows].unbind(1)
    assert (chosen > rejected).all()
    before, weights = sampled_redness(policy), state(policy)
    config = TrainerConfig(steps=30, batch=BATCH, learning_rate=3e-2, weight_decay=0)
    history = Trainer(policy, toy_paired(policy, data), config, 0, tmp_path).run()
    gain = sampled_redness(policy) - before
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    assert (gain > 0).float().mean() > 0.9
    assert history.curves["margin/paired"][0] == 0
    assert history.recent("margin/paired", 10) > 0.1
    assert history.recent("accuracy/paired", 10) > 0.9
    trained = {name.removeprefix("unet.") for name in policy.trainable()}
    after = state(policy)
    assert all(torch.equal(weights[name], after[name]) != (name in trained) for name in weights)
    with policy.reference():
        assert torch.equal(sampled_redness(policy), before)


def test_the_squared_loss_leads_the_margin_to_its_value_and_no_further(sd15_folder: Path, tmp_path: Path) -> None:
    policy = policy_of(sd15_folder)
    config = TrainerConfig(steps=30, batch=BATCH, learning_rate=1e-2, weight_decay=0)
    history = Trainer(policy, toy_paired(policy, loss="squared", beta=10.0), config, 0, tmp_path).run()
    assert history.recent("margin/paired", 10) == pytest.approx(1 / (2 * 10.0), rel=0.4)


@pytest.mark.parametrize("name", [n if n == "kept draws" else pytest.param(n, marks=pytest.mark.slow) for n in BUILDS])
def test_a_step_is_the_same_however_it_is_split(sd15_folder: Path, tmp_path: Path, name: str) -> None:
    """Batch 4 at once, in two halves, and one by one."""
    runs = {}
    for micro in (4, 2, 1):
        policy = policy_of(sd15_folder)
        config = QUICK.model_copy(update={"micro_batch": micro, "steps": 3})
        history = Trainer(policy, BUILDS[name](policy), config, 0, tmp_path / str(micro)).run()
        runs[micro] = (history.curves, policy.trainable(), policy.counts)
    curves, parameters, counts = runs[4]
    for micro in (2, 1):
        other, theirs, spent = runs[micro]
        assert spent == counts
        for key, curve in curves.items():
            assert other[key] == pytest.approx(curve, rel=1e-3, abs=1e-5), key
        for key, value in parameters.items():
            torch.testing.assert_close(theirs[key], value, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", [n if n == "kept draws" else pytest.param(n, marks=pytest.mark.slow) for n in BUILDS])
def test_a_killed_run_resumes_to_the_bits_of_an_undisturbed_one(sd15_folder: Path, tmp_path: Path, name: str) -> None:
    def run(out: Path, stop: int | None = None) -> Policy:
        def observe(step: int) -> None:
            if step == stop:
                raise KeyboardInterrupt

        policy = policy_of(sd15_folder)
        Trainer(policy, BUILDS[name](policy), QUICK, 0, out).run(observe)
        policy.save(out)
        return policy

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=3)  # after the checkpoint of step 2
    assert run(tmp_path / "cut").counts == whole.counts
    assert digest_file(tmp_path / "cut" / LORA_FILE) == digest_file(tmp_path / "whole" / LORA_FILE)


# settings -> forwards of each step of 4 pairs: 8 with gradient, and 8 of the reference where they are not known
COSTS = {
    "fresh noise": ({}, [16] * 6),
    "one draw of 8 pairs": ({"draws": 1}, [16, 16, 8, 8, 8, 8]),
    "two draws of 8 pairs": ({"draws": 2}, [16, 16, 16, 16, 8, 8]),
}


@pytest.mark.parametrize("name", COSTS)
def test_the_cost_of_a_step_is_pinned(sd15_folder: Path, name: str) -> None:
    settings, forwards = COSTS[name]
    policy = policy_of(sd15_folder)
    algorithm = toy_paired(policy, **settings)
    policy.counts = Counts()
    for step, expected in enumerate(forwards):
        before = replace(policy.counts)
        assert run_step(algorithm, policy, Slots(0, step, 0, BATCH)).loss.shape == (BATCH,)
        assert policy.counts.unet_forwards - before.unet_forwards == expected
        assert policy.counts.unet_backwards - before.unet_backwards == 8
    assert policy.counts.decodes == 0


class Afresh(Paired):
    """Decodes and encodes every picture and prompt again at every step."""

    def prepare(self, policy: Policy, slots: Slots) -> None:
        self.data = drawn_pairs(policy, len(self.data))


def pictures_of(pair: int) -> tuple[dict[str, Any], dict[str, Any]]:
    one = preference(2 * pair, 2 * pair + 1)
    return dict(one.chosen), dict(one.rejected)


class Forgetful(Paired):
    """Asks the reference anew at every step."""

    def prepare(self, policy: Policy, slots: Slots) -> None:
        self.reference.fill_(torch.nan)


@pytest.mark.parametrize(("kind", "pairs"), [(Afresh, 8), (Forgetful, 8), (Forgetful, 5)])
def test_training_with_a_cache_is_training_without_it_to_the_bit(
    sd15_folder: Path, tmp_path: Path, kind: type[Paired], pairs: int
) -> None:
    """Two draws of 5 pairs in batches of 4: in the third step half of the reference errors are known."""
    found = {}
    for algorithm in (Paired, kind):
        policy = policy_of(sd15_folder)
        settings = PairedSettings(beta=50.0, draws=0 if kind is Afresh else 2)
        built = algorithm(settings, drawn_pairs(policy, pairs), 0, BATCH)
        Trainer(policy, built, QUICK, 0, tmp_path / algorithm.__name__).run()
        found[algorithm] = (policy.trainable(), policy.counts)
    (cached, cost), (uncached, dearer) = found[Paired], found[kind]
    assert all(torch.equal(cached[name], uncached[name]) for name in cached)
    assert (cost.unet_forwards < dearer.unet_forwards) == (kind is Forgetful)


def test_every_pair_has_one_turn_an_epoch_and_its_draws_in_turn(sd15_folder: Path) -> None:
    algorithm = toy_paired(policy_of(sd15_folder), batch=3)
    turns = [algorithm.turns(Slots(5, step, 0, 3)) for step in range(8)]
    pairs, epochs = (torch.cat(parts).view(3, 8) for parts in zip(*turns, strict=True))
    assert torch.equal(pairs.sort(1).values, torch.arange(8).expand(3, 8))
    assert not torch.equal(pairs[0], pairs[1])
    assert torch.equal(epochs, torch.arange(3)[:, None].expand(3, 8))
    part = algorithm.turns(Slots(5, 2, 1, 2))
    assert torch.equal(part[0], turns[2][0][1:])


def test_kept_draws_come_back_after_m_turns_and_fresh_ones_never(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    disturb(policy)

    def losses(**settings: Any) -> list[torch.Tensor]:
        algorithm = toy_paired(policy, red_pairs(policy, 1), batch=1, **settings)
        return [run_step(algorithm, policy, Slots(0, turn, 0, 1)).loss.detach() for turn in range(4)]

    kept, fresh = losses(draws=2), losses()
    assert torch.equal(kept[0], kept[2])
    assert torch.equal(kept[1], kept[3])
    assert not torch.equal(kept[0], kept[1])
    assert len({float(loss) for loss in fresh}) == 4


def test_both_pictures_share_time_and_noise_only_where_asked_and_their_posteriors_never() -> None:
    slots = [Slots(0, 0, 0, 2), Slots(0, 7, 3, 1)]
    for shared in (True, False):
        draws = PairDraws("x", slots, shared)
        for values in (draws.noise((4, 2, 2)), draws.uniform()):
            chosen, rejected = values.view(2, 3, -1)
            assert torch.equal(chosen, rejected) == shared
        chosen, rejected = draws.posterior((4, 2, 2)).view(2, 3, -1)
        assert not torch.equal(chosen, rejected)
    one, other = (PairDraws("x", slots, shared) for shared in (True, False))
    assert torch.equal(one.noise((4, 2, 2))[:3], other.noise((4, 2, 2))[:3])


def test_swapping_a_pair_flips_its_margin(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    disturb(policy)
    data = red_pairs(policy)
    slots = Slots(0, 0, 0, BATCH)
    margin = run_step(toy_paired(policy, data), policy, slots).metrics["margin/paired"]
    swapped = run_step(toy_paired(policy, replace(data, rows=data.rows.flip(1))), policy, slots)
    torch.testing.assert_close(swapped.metrics["margin/paired"], -margin, atol=1e-6, rtol=0)
    assert margin.abs().min() > 1e-4


@pytest.mark.parametrize(
    "trainable", [{"lora": {"rank": 0, "text_rank": 4}}, {"full": {"modules": "attn2"}}, {"lora": {"dora": True}}]
)
@pytest.mark.parametrize("family", ["sd15_folder", "sdxl_folder"])
def test_the_reference_is_the_base_model_whatever_is_trained(
    family: str, trainable: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    policy = policy_of(request.getfixturevalue(family), trainable=trainable)
    algorithm, slots = toy_paired(policy, draws=1), Slots(0, 0, 0, BATCH)
    at_start = run_step(algorithm, policy, slots).metrics["margin/paired"]
    assert torch.equal(at_start, torch.zeros(BATCH))
    known = algorithm.reference.clone()
    disturb(policy)
    algorithm.reference.fill_(torch.nan)
    output = run_step(algorithm, policy, slots)
    torch.testing.assert_close(algorithm.reference, known, atol=1e-6, rtol=1e-5, equal_nan=True)
    assert output.metrics["margin/paired"].abs().min() > 0
    assert gradients(policy, output.loss).abs().max() > 0


def test_a_picture_is_encoded_once_and_a_pair_with_itself_is_dropped_and_counted(sd15_folder: Path) -> None:
    policy = policy_of(sd15_folder)
    votes = [preference(0, 1), preference(1, 0), preference(2, 2), preference(0, 2, PROMPTS[1])]
    data = PairSet.encode(policy, votes, pixels)
    assert data.rows.tolist() == [[0, 1], [1, 0], [0, 2]]
    assert (len(data), len(data.mean), data.prompts.texts, data.prompt.tolist()) == (3, 3, (*PROMPTS[:2],), [0, 0, 1])
    assert data.dropped == 1
    assert run_step(toy_paired(policy, data), policy, Slots(0, 0, 0, 2)).metrics["dropped/paired"].tolist() == [1, 1]
    many = drawn_pairs(policy, 20)  # more pictures than are held as pixels at a time
    images = pixels([{"image": one} for one in pictures_of(19)])
    torch.testing.assert_close(many.mean[many.rows[19]], encode_moments(policy.pipeline, images)[0])
    with pytest.raises(InputError, match="all 2 preference pairs compare a picture with itself"):
        PairSet.encode(policy, [preference(3, 3), preference(4, 4)], pixels)


def test_preferences_that_are_missing_empty_or_of_another_kind_are_named(tmp_path: Path) -> None:
    votes = [preference(0, 1), replace(preference(2, 3, kind="structure"), fold="judge")]
    write_preferences(tmp_path, votes)
    assert [vote.prompt for vote in wanted(tmp_path, ("appeal",))] == [PROMPTS[0]]
    with pytest.raises(InputError, match="no pairs of kind 'structure' in the fold 'reward'"):
        wanted(tmp_path, ("appeal", "structure"))
    with pytest.raises(InputError, match="none are bound") as caught:
        wanted(None, ("appeal",))
    assert "preferences=" in caught.value.remedy
    for none in ([], [replace(preference(0, 1), tie=True)]):
        write_preferences(tmp_path, none)
        with pytest.raises(InputError, match="no pairs of kind 'appeal'"):
            wanted(tmp_path, ("appeal",))
    write_preferences(tmp_path, [preference(0, 1), replace(preference(2, 3), tie=True)])
    assert wanted(tmp_path, ("appeal",)) == [preference(0, 1)]
    write_preferences(tmp_path, [])
    with pytest.raises(InputError, match="no pairs of kind 'appeal'"):
        wanted(tmp_path, ("appeal",))


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"loss": "logistik"}, UnknownNameError, "logistic"),
        ({"smoothing": 0.5}, ValueError, "smoothing"),
        ({"beta": 0}, ValueError, "beta"),
        ({"kinds": ()}, ValueError, "kinds"),
        ({"kinds": ("Appeal",)}, ValueError, "kinds"),
        ({"draws": -1}, ValueError, "draws"),
    ],
)
def test_mistakes_in_the_settings_are_refused(settings: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        PairedSettings.model_validate(settings)
    assert issubclass(UnknownNameError, ConfigError)
