"""Claims about fine-tuning with rewards, one measure each. All watch with judges that training never saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from claims import Claim, Figures, Rule
from testbed import Record, Testbed

WATCH = ("identity", "prompt_fidelity")
LATE: dict[str, Any] = {"late": [0, 3]}
PRIOR: dict[str, Any] = {"prior": {}}


def reached(records: Sequence[Record], name: str, level: float, unit: str) -> float:
    """``unit`` spent when ``name`` first reached ``level``, linear between records; all of it if it never did."""
    before = records[0]
    for record in records:
        if record[name] >= level:
            gain = record[name] - before[name]
            share = (level - before[name]) / gain if gain > 0 else 0.0
            return before[unit] + share * (record[unit] - before[unit])
        before = record
    return records[-1][unit]


def identity_speed(bed: Testbed) -> Figures:
    """D1. The level to reach is what the denoising loss alone ends with."""
    common: dict[str, Any] = {"steps": 150}
    alone = bed.run("denoising", {**common, "losses": {"denoising": {}, **PRIOR}}, every=10, watch=WATCH)
    losses = {"reward_backprop": LATE, "denoising": {}, **PRIOR}
    aligned = bed.run("identity", {**common, "losses": losses, "rewards": {"identity": 0.5}}, every=10, watch=WATCH)
    level = 0.95 * alone[-1]["identity"]
    figures = {"level": level, "final_alone": alone[-1]["identity"], "final_aligned": aligned[-1]["identity"]}
    for unit in ("step", "unet_forwards"):
        slow, fast = reached(alone, "identity", level, unit), reached(aligned, "identity", level, unit)
        figures |= {f"{unit}_alone": slow, f"{unit}_aligned": fast, f"fewer_{unit}": 1 - fast / slow}
    return figures


def text_tax(bed: Testbed) -> Figures:
    """D2. Prompt fidelity where each run reaches one level of identity: plain, and with two remedies."""
    losses = {"reward_backprop": LATE, "denoising": {}, **PRIOR}
    arms: dict[str, dict[str, Any]] = {
        "plain": {"rewards": {"identity": 0.5}},
        "harmonic": {"rewards": {"identity": 0.5, "text": 0.5}, "composition": "harmonic"},
        "text": {"rewards": {"identity": 0.5, "text": 2.0}},
    }
    runs = {
        name: bed.run(name, {"steps": 150, "losses": losses, **arm}, every=10, watch=WATCH)
        for name, arm in arms.items()
    }
    level = 0.95 * min(max(record["identity"] for record in run) for run in runs.values())
    base = runs["plain"][0]["prompt_fidelity"]
    fidelity = {name: at_level(run, level) for name, run in runs.items()}
    figures = {"base": base, "level": level, **{f"fidelity_{name}": value for name, value in fidelity.items()}}
    figures["tax"] = base - fidelity["plain"]
    return figures | {f"saved_by_{name}": fidelity[name] - fidelity["plain"] for name in ("harmonic", "text")}


def at_level(records: Sequence[Record], level: float) -> float:
    """Prompt fidelity, averaged over the records from the first that has reached the level of identity on."""
    first = next(i for i, record in enumerate(records) if record["identity"] >= level)
    tail = records[first : first + 3]
    return sum(record["prompt_fidelity"] for record in tail) / len(tail)


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            name="D1",
            paper="ID-Aligner, 2404.15449, figure 7",
            statement="the identity reward makes a LoRA reach a likeness in at least 25 % fewer steps",
            arms={
                "alone": "denoising loss on the references and on other people's pictures",
                "aligned": "the same with the identity reward of recogniser A",
            },
            measure=identity_speed,
            rules=(
                Rule("fewer_step", 0.25, "share of optimiser steps saved until recogniser B sees the likeness"),
                Rule("fewer_unet_forwards", 0.0, "share of UNet forwards saved until then"),
            ),
            notes="Forwards of the rollouts count against the reward: steps and forwards need not agree.",
        ),
        Claim(
            name="D2",
            paper="ID-Aligner, 2404.15449, table 1",
            statement="the identity reward costs prompt fidelity, and a reward for the text gives some of it back",
            arms={
                "plain": "identity reward",
                "harmonic": "lambda-harmonic of identity and text (RPO, 2407.12164), lambda .5",
                "text": "weighted sum of identity and text",
            },
            measure=text_tax,
            rules=(
                Rule("tax", 0.0, "prompt fidelity lost by the plain reward at equal identity"),
                Rule("saved_by_harmonic", 0.0, "prompt fidelity that the harmonic composition keeps of it"),
                Rule("saved_by_text", 0.0, "prompt fidelity that the weighted text reward keeps of it"),
            ),
        ),
    )
}
