"""Learning from pairs that people or rewards have already ordered: Diffusion-DPO (2311.12908) and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from likeness.core.errors import InputError
from likeness.core.seeds import derive_seed
from likeness.preferences.pairs import Kind, Preference, read_preferences
from likeness.training.algorithm import Memory, Slots, StepOutput
from likeness.training.pair_set import PairSet
from likeness.training.pairs import NoisedPairs, PairDraws, PairSettings, pair_output
from likeness.training.plan import ALGORITHMS, AlgorithmSpec

if TYPE_CHECKING:
    from torch import Tensor

    from likeness.models.policy import Policy
    from likeness.training.bench import Bench

NAME = "paired"
_REFERENCE = "reference"


class PairedSettings(PairSettings):
    """``kinds``: of the preferences to learn from. ``draws``: 0 noises a pair afresh at every turn, as in the paper;
    M > 0 gives each pair M times, noises and posterior samples that it uses in turn, so that the reference's errors on
    them are computed once."""

    kinds: tuple[Kind, ...] = Field(("appeal",), min_length=1)
    draws: int = Field(0, ge=0)


@dataclass
class Paired:
    """The pair loss on ``data``. ``batch``: slots of a whole step; ``seed``: of the pairs' own draws.

    ``reference``: (P, M, 2) errors of the reference, NaN where a pair's draw has not had its turn. They are kept in
    checkpoints: computed again in other company they might differ in the last bit.
    """

    cycle = 1

    settings: PairedSettings
    data: PairSet
    seed: int
    batch: int
    reference: Tensor = field(init=False)

    def __post_init__(self) -> None:
        import torch

        self.reference = torch.full((len(self.data), self.settings.draws, 2), torch.nan)

    @classmethod
    def build(cls, settings: PairedSettings, bench: Bench) -> Paired:
        """The algorithm on the bench's preferences.

        Raises:
            InputError: there are none, or none of a kind.
        """
        preferences = wanted(bench.material.preferences, settings.kinds)
        return cls(settings, PairSet.encode(bench.policy, preferences, bench.images), bench.seed, bench.plan.batch)

    def prepare(self, policy: Policy, slots: Slots) -> None:
        return

    def step(self, policy: Policy, slots: Slots) -> StepOutput:
        import torch

        pair, turn = self.turns(slots)
        draw = turn % max(1, self.settings.draws)
        noised = self._noised(policy, pair, self.draws(slots, pair, draw))
        reference = self._reference(policy, noised, pair, draw)
        output = pair_output(self.settings, NAME, noised.errors(policy, self.data.prompts), reference)
        dropped = torch.full((slots.count,), float(self.data.dropped))
        return StepOutput(output.loss, {**output.metrics, f"dropped/{NAME}": dropped})

    def turns(self, slots: Slots) -> tuple[Tensor, Tensor]:
        """Pair (B,) of each slot, and how often that pair has had its turn before (B,): each has one an epoch."""
        import torch

        first = slots.step * self.batch + slots.first
        places = [divmod(number, len(self.data)) for number in range(first, first + slots.count)]
        pairs = [_order(slots.seed, epoch, len(self.data))[place] for epoch, place in places]
        return torch.stack(pairs), torch.tensor([epoch for epoch, _ in places])

    def draws(self, slots: Slots, pair: Tensor, draw: Tensor) -> PairDraws:
        """What each slot's pair is noised by: the slot's own draws, or those that its pair keeps under a number."""
        if not self.settings.draws:
            return PairDraws(NAME, [slots], self.settings.share_noise)
        kept = [Slots(self.seed, *place, 1) for place in zip(pair.tolist(), draw.tolist(), strict=True)]
        return PairDraws(f"{NAME}/kept", kept, self.settings.share_noise)

    def _noised(self, policy: Policy, pair: Tensor, draws: PairDraws) -> NoisedPairs:
        x0 = self.data.draw(pair, draws.posterior(self.data.mean.shape[1:]))
        return NoisedPairs.at(policy, x0, self.data.prompt[pair], draws)

    def _reference(self, policy: Policy, noised: NoisedPairs, pair: Tensor, draw: Tensor) -> Tensor:
        """The reference's errors (B, 2): computed, or looked up once they have been."""
        if not self.settings.draws:
            return noised.reference_errors(policy, self.data.prompts)
        missing = self.reference[pair, draw].isnan().any(1).nonzero().flatten()
        if policy.most(len(missing)):  # with a sharded network all processes compute if one has to
            asked = missing if len(missing) else missing.new_zeros(1)
            errors = noised.take(asked).reference_errors(policy, self.data.prompts)
            self.reference[pair[missing], draw[missing]] = errors[: len(missing)]
        return self.reference[pair, draw]

    def memory(self) -> Memory:
        return Memory({_REFERENCE: self.reference}) if self.settings.draws else Memory()

    def restore(self, memory: Memory) -> None:
        self.reference = memory.tensors.get(_REFERENCE, self.reference)


@lru_cache(maxsize=2)  # a step of fewer slots than pairs lies in one epoch or in two
def _order(seed: int, epoch: int, pairs: int) -> Tensor:
    """The pairs in the order of their turns in that epoch, (P,)."""
    import torch

    return torch.randperm(pairs, generator=torch.Generator().manual_seed(derive_seed(seed, f"{NAME}/order", epoch)))


def wanted(folder: Path | None, kinds: Sequence[Kind]) -> list[Preference]:
    """The preferences of ``kinds`` in the reward's fold: the judge's votes stay held out.

    Raises:
        InputError: no folder is bound, or it holds none of a kind.
    """
    if folder is None:
        raise InputError(
            f"the algorithm '{NAME}' learns from preference pairs, and none are bound",
            remedy="bind preferences=FOLDER, what the mine_preferences step wrote",
        )
    found = read_preferences(folder, fold="reward")
    for kind in kinds:
        if all(preference.kind != kind or preference.tie for preference in found):
            raise InputError(
                f"{folder} holds no pairs of kind '{kind}' in the fold 'reward'",
                remedy=f"take '{kind}' out of losses.{NAME}.kinds, or name a source of it in mine_preferences",
            )
    # Ties say nothing about which of two to prefer (D3PO, 2311.13231, masks them as well).
    return [preference for preference in found if preference.kind in kinds and not preference.tie]


ALGORITHMS.add(NAME, AlgorithmSpec(PairedSettings, Paired.build), __name__)
