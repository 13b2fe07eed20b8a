"""Laws of the compositions: order, units, monotone maps, gradients, and sums that can be done by eye."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from likeness.core.errors import ConfigError
from likeness.rewards.compose import COMPOSITIONS, Composition, Statistics
from likeness.rewards.compositions.constrained import Constrained
from likeness.rewards.compositions.harmonic import Harmonic
from likeness.rewards.compositions.rank import Rank
from likeness.rewards.compositions.standardised import Standardised
from likeness.rewards.compositions.weighted import Weighted

WEIGHTS = {"identity": 2.0, "text": 0.5}
ALL: dict[str, Composition] = {
    "weighted": Weighted(),
    "standardised": Standardised(),
    "constrained": Constrained(primary="identity", floors={"text": 0.1}),
    "rank": Rank(),
    "harmonic": Harmonic(ranges={"text": (-2, 2)}),
}


def tensors(**readings: list[float]) -> dict[str, Tensor]:
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in readings.items()}


def drawn(count: int, seed: int = 0) -> dict[str, Tensor]:
    """Cosines."""
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.rand(count, generator=draw, dtype=torch.float64) * 1.8 - 0.9 for name in WEIGHTS}


def after(composition: Composition, *steps: Mapping[str, Tensor]) -> Statistics:
    statistics = composition.start(WEIGHTS)
    for readings in steps:
        statistics = composition.fold(statistics, readings)
    return statistics


def test_every_composition_is_under_test() -> None:
    assert {name: COMPOSITIONS.get(name) for name in COMPOSITIONS} == {name: type(one) for name, one in ALL.items()}


@pytest.mark.parametrize("name", ALL)
def test_permuting_the_samples_permutes_the_reward(name: str) -> None:
    composition, readings, order = ALL[name], drawn(9), torch.randperm(9, generator=torch.Generator().manual_seed(1))
    statistics = after(composition, drawn(5, seed=2))
    reward = composition.reward(readings, WEIGHTS, statistics)
    permuted = composition.reward({n: value[order] for n, value in readings.items()}, WEIGHTS, statistics)
    assert reward.shape == (9,)
    assert len(reward.unique()) > 4
    torch.testing.assert_close(permuted, reward[order], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_a_sample_that_gains_in_every_reading_gains(name: str) -> None:
    composition, readings = ALL[name], drawn(8)
    better = {n: torch.cat([value[:1] + 0.05, value[1:]]) for n, value in readings.items()}
    statistics = after(composition, drawn(5, seed=2))
    before, now = (composition.reward(r, WEIGHTS, statistics)[0] for r in (readings, better))
    assert now > before or (name == "rank" and now == before)


@pytest.mark.parametrize("name", [name for name, one in ALL.items() if one.differentiable])
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    composition, statistics = ALL[name], after(ALL[name], drawn(5, seed=2))
    best = dict.fromkeys(WEIGHTS, 1.0)

    def reward_and_loss(*values: Tensor) -> tuple[Tensor, Tensor]:
        readings = dict(zip(WEIGHTS, values, strict=True))
        return (
            composition.reward(readings, WEIGHTS, statistics),
            composition.loss(readings, best, WEIGHTS, statistics),
        )

    inputs = [value.requires_grad_() for value in drawn(6).values()]
    assert torch.autograd.gradcheck(reward_and_loss, inputs)
    reward, loss = reward_and_loss(*inputs)
    up = torch.autograd.grad(reward.sum(), inputs, retain_graph=True)
    down = torch.autograd.grad(loss.sum(), inputs)
    assert all(torch.equal(a, -b) for a, b in zip(up, down, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_statistics_survive_a_checkpoint_and_leave_their_arguments_alone(name: str) -> None:
    composition = ALL[name]
    first = composition.start(WEIGHTS)
    copy = json.loads(json.dumps(first))
    later = composition.fold(first, drawn(5))
    assert first == copy
    restored = json.loads(json.dumps(later))
    assert composition.fold(restored, drawn(4, seed=3)) == composition.fold(later, drawn(4, seed=3))
    assert all(later[kind].keys() <= WEIGHTS.keys() for kind in composition.shown)


def test_the_sum_and_its_shortfall_by_eye() -> None:
    readings = tensors(identity=[0.5, 1.0], text=[2.0, -4.0])
    assert Weighted().reward(readings, WEIGHTS, {}).tolist() == [2.0, 0.0]
    # 2 (1 - 0.5) + 0.5 (0 - 2) = 0; 2 (1 - 1) + 0.5 (0 + 4) = 2
    assert Weighted().loss(readings, {"identity": 1.0, "text": 0.0}, WEIGHTS, {}).tolist() == [0.0, 2.0]


def test_standardised_readings_by_eye() -> None:
    statistics = {"mean": {"identity": 0.5, "text": 10.0}, "deviation": {"identity": 0.25, "text": 4.0}}
    readings = tensors(identity=[0.5, 1.0], text=[14.0, 10.0])
    assert Standardised().reward(readings, WEIGHTS, statistics).tolist() == [0.5, 4.0]


def test_statistics_are_those_of_all_samples_so_far() -> None:
    steps = [drawn(4, seed) for seed in range(5)]
    found = after(Standardised(), *steps)
    for name in WEIGHTS:
        everything = torch.cat([readings[name] for readings in steps])
        assert found["mean"][name] == pytest.approx(float(everything.mean()), rel=1e-12)
        assert found["deviation"][name] == pytest.approx(float(everything.std(correction=0)), rel=1e-12)
    short = after(Standardised(horizon=1), *steps)  # the last step alone
    assert short["mean"]["text"] == pytest.approx(float(steps[-1]["text"].mean()), rel=1e-12)
    assert short["deviation"]["text"] == pytest.approx(float(steps[-1]["text"].std(correction=0)), rel=1e-12)


def test_units_do_not_matter_to_standardised_readings() -> None:
    composition, past, readings = Standardised(), drawn(6, 1), drawn(6)

    def in_other_units(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"identity": 1000 * given["identity"] - 7, "text": given["text"] / 50 + 3}

    expected = composition.reward(readings, WEIGHTS, after(composition, past))
    found = composition.reward(in_other_units(readings), WEIGHTS, after(composition, in_other_units(past)))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, -123.4])
def test_a_reading_that_never_varies_adds_nothing(value: float) -> None:
    """0.1 in float32 has a mean that is off by its rounding, which must not be divided by itself."""
    constant = torch.full((7,), value)
    readings = {"identity": constant, "text": torch.linspace(0, 1, 7)}
    statistics = after(Standardised(), readings, readings)
    found = Standardised().reward(readings, WEIGHTS, statistics)
    alone = Standardised().reward({"text": readings["text"]}, WEIGHTS, statistics)
    assert torch.isfinite(found).all()
    assert torch.equal(found, alone)


def test_floors_by_eye() -> None:
    composition = Constrained(primary="identity", floors={"text": 0.5}, rate=2.0)
    readings = tensors(identity=[1.0, 1.0, 1.0], text=[0.25, 0.5, 0.75])
    start = composition.start(WEIGHTS)
    assert composition.reward(readings, WEIGHTS, start).tolist() == [2 - 0.5 * 0.25, 2.0, 2.0]
    # the mean violation is 0.25 / 3
    assert composition.fold(start, readings)["multiplier"]["text"] == pytest.approx(0.5 + 2 * 0.25 / 3)
    met = tensors(identity=[0.0], text=[0.9])
    assert composition.fold(start, met) == start


def test_dual_ascent_finds_the_constrained_optimum() -> None:
    """Raise -(x - 2)^2 while -x >= -1: the best x is 1, held there by any multiplier from the slope 2 on."""
    composition = Constrained(primary="identity", floors={"text": -1.0}, rate=0.05)
    weights = {"identity": 1.0, "text": 0.1}
    statistics, x = composition.start(weights), torch.tensor([0.0], requires_grad=True)
    for _ in range(400):
        readings = {"identity": -((x - 2) ** 2), "text": -x}
        (slope,) = torch.autograd.grad(composition.reward(readings, weights, statistics).sum(), [x])
        x = (x + 0.02 * slope).detach().requires_grad_()
        statistics = composition.fold(statistics, {name: value.detach() for name, value in readings.items()})
    assert x.item() == pytest.approx(1, abs=0.05)
    assert 2 <= statistics["multiplier"]["text"] < 3


def test_ranks_by_eye() -> None:
    readings = tensors(identity=[3.0, 1.0, 2.0], text=[5.0, 5.0, 0.0])
    # ranks 1, 0, 1/2 and, with the tie averaged, 3/4, 3/4, 0; weights 4/5 and 1/5
    assert Rank().reward(readings, WEIGHTS, {}).tolist() == pytest.approx([0.95, 0.15, 0.4])
    assert Rank().reward(tensors(identity=[7.0], text=[1.0]), WEIGHTS, {}).tolist() == [0.5]
    assert not Rank().reward({n: r.requires_grad_() for n, r in readings.items()}, WEIGHTS, {}).requires_grad


def test_groups_are_ranked_among_themselves() -> None:
    readings = drawn(6)
    grouped = Rank(group=3).reward(readings, WEIGHTS, {})
    apart = [Rank().reward({n: r[i : i + 3] for n, r in readings.items()}, WEIGHTS, {}) for i in (0, 3)]
    assert torch.equal(grouped, torch.cat(apart))
    with pytest.raises(ConfigError, match="6 samples cannot be ranked in groups of 4"):
        Rank(group=4).reward(readings, WEIGHTS, {})


def test_monotone_maps_do_not_change_ranks() -> None:
    readings = drawn(12)
    mapped = {"identity": readings["identity"].exp() * 40, "text": readings["text"] ** 3 - 5}
    assert torch.equal(Rank().reward(mapped, WEIGHTS, {}), Rank().reward(readings, WEIGHTS, {}))


def test_the_harmonic_mean_by_eye() -> None:
    readings = tensors(identity=[1.0, 0.0], text=[0.0, 0.0])
    even = {"identity": 3.0, "text": 3.0}
    # s = 1 and 1/2: 1 / (1/2 / 1 + 1/2 / (1/2)) = 2/3; s = 1/2 twice: 1/2
    assert Harmonic().reward(readings, even, {}).tolist() == pytest.approx([2 / 3, 0.5])
    wide = Harmonic(ranges={"identity": (0, 1)}, least=0.25)
    # s = 1/4, the least there is, and 1/2: 1 / (1/2 * 4 + 1/2 * 2) = 1/3
    assert wide.reward(readings, even, {}).tolist()[1] == pytest.approx(1 / 3)


def test_the_harmonic_mean_is_at_most_the_arithmetic_mean() -> None:
    readings = drawn(200)
    found = Harmonic().reward(readings, WEIGHTS, {})
    shares = {name: (reading + 1) / 2 for name, reading in readings.items()}
    arithmetic = (2.0 * shares["identity"] + 0.5 * shares["text"]) / 2.5
    assert (found <= arithmetic + 1e-12).all()
    assert (found >= torch.minimum(*shares.values()) - 1e-12).all()
    same = dict.fromkeys(WEIGHTS, readings["text"])
    torch.testing.assert_close(Harmonic().reward(same, WEIGHTS, {}), shares["text"])
    scaled = {name: 10 * weight for name, weight in WEIGHTS.items()}
    torch.testing.assert_close(Harmonic().reward(readings, scaled, {}), found)
