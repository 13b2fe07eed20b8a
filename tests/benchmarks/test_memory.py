"""The meter of live bytes, and what a reference model costs."""

from __future__ import annotations

from pathlib import Path

import torch
from memory import peak_bytes

from likeness.models.policy import Policy
from tiny_training import PROMPTS, gradients, policy_of


def test_the_peak_is_what_lives_at_one_time() -> None:
    layer = torch.nn.Linear(16, 16, bias=False)
    x = torch.zeros(8, 16)

    def chain() -> None:
        y = x
        for _ in range(5):  # each result dies when the next is there
            y = y + 1

    assert peak_bytes(chain, layer) == layer.weight.nbytes + 2 * x.nbytes
    with torch.no_grad():
        assert peak_bytes(lambda: layer(x), layer) == layer.weight.nbytes + x.nbytes


def test_a_reference_model_costs_at_most_a_tenth_more_memory(sd15_folder: Path) -> None:
    """The parts are turned off for it: no second copy of the weights, and no activations kept."""
    policy = policy_of(sd15_folder)
    x_t, t = torch.randn(4, 4, 16, 16), torch.full((4,), 500)
    conditioning = policy.encode(policy.prompts(PROMPTS[:1]), torch.zeros(4, dtype=torch.long))

    def predicted(policy: Policy) -> torch.Tensor:
        return policy.predict(x_t, t, conditioning).square().mean()

    def with_reference() -> None:
        error = predicted(policy)
        with policy.reference(), torch.no_grad():
            known = predicted(policy)
        gradients(policy, error - known)

    alone = peak_bytes(lambda: gradients(policy, predicted(policy)), policy.network)
    assert alone < peak_bytes(with_reference, policy.network) <= 1.1 * alone
