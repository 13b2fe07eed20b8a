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


PREFERENCE = ("proxy", "taste")
BACKPROP: dict[str, Any] = {"reward_backprop": {"late": [3, 3], "through": "sample"}}
RANDOM_DEPTH: dict[str, Any] = {"reward_backprop": {"late": [0, 3], "through": "sample"}}


def sample_efficiency(bed: Testbed) -> Figures:
    """D4. Pictures drawn and scored, and UNet forwards, until the proxy reward is what DDPO had at its best."""
    rewards = {"rewards": {"appeal": 1.0}, "learning_rate": 1e-3}
    ddpo = {"policy_gradient": {"steps": 4, "times_per_step": 3, "clip": 1e-2, "advantage": "batch"}}
    runs = {
        "ddpo": bed.run("ddpo", {**rewards, "steps": 60, "batch": 32, "losses": ddpo}, every=5, watch=PREFERENCE),
        "last": bed.run("draft-1", {**rewards, "steps": 48, "losses": BACKPROP}, every=2, watch=PREFERENCE),
        "random": bed.run("alignprop", {**rewards, "steps": 48, "losses": RANDOM_DEPTH}, every=2, watch=PREFERENCE),
    }
    best = max(runs["ddpo"], key=lambda record: record["proxy"])
    figures = {"base": runs["ddpo"][0]["proxy"], "ddpo_best": best["proxy"]}
    for name in ("last", "random"):
        for unit in ("decodes", "unet_forwards"):
            spent = reached(runs[name], "proxy", best["proxy"], unit)
            figures |= {f"{unit}_ddpo": best[unit], f"{unit}_{name}": spent}
            figures[f"fewer_{unit}_{name}"] = 1 - spent / best[unit]
        there = next((record for record in runs[name] if record["proxy"] >= best["proxy"]), runs[name][-1])
        figures[f"taste_{name}_minus_ddpo"] = there["taste"] - best["taste"]
    return figures


def stability(bed: Testbed) -> Figures:
    """D5. Final proxy reward after equal numbers of pictures, from few prompts and from many."""
    common = {"rewards": {"appeal": 1.0}, "steps": 40, "learning_rate": 1e-3}
    ddpo = {"policy_gradient": {"steps": 4, "times_per_step": 3, "clip": 1e-2, "advantage": "prompt_history"}}
    prdp = {"reward_regression": {"steps": 4, "updates": 1, "beta": 50.0, "clip": 1e-2}}
    arms: dict[str, dict[str, Any]] = {"ddpo": {"batch": 16, "losses": ddpo}, "prdp": {"batch": 8, "losses": prdp}}
    figures: Figures = {}
    for prompts in (8, 512):
        for name, arm in arms.items():
            run = bed.run(f"{name}-{prompts}", {**common, **arm, "prompts": prompts}, every=20, watch=PREFERENCE)
            figures[f"gain_{name}_{prompts}"] = run[-1]["proxy"] - run[0]["proxy"]
            figures[f"collapsed_{name}_{prompts}"] = float(run[-1]["proxy"] < run[0]["proxy"])
            for unit in ("decodes", "unet_forwards", "unet_backwards"):
                figures[f"{unit}_{name}_{prompts}"] = run[-1][unit]
        for what in ("gain", "collapsed"):
            sign = 1 if what == "gain" else -1
            apart = figures[f"{what}_prdp_{prompts}"] - figures[f"{what}_ddpo_{prompts}"]
            figures[f"{what}_better_by_prdp_{prompts}"] = sign * apart
    return figures


def noise_search(bed: Testbed) -> Figures:
    """alt-4. The composed reward of the best picture found, over that of the first, by three ways to spend a budget."""
    found = bed.search(
        {
            "reno": ("reno", {"iterations": 20, "steps": 4}),
            "random": ("random_search", {"iterations": 20, "steps": 4, "equal": "compute"}),
        },
        rewards={"text": 5.0, "appeal": 0.2},
        prompts=8,
    )
    reno, random = found["reno"], found["random"]
    equal_evaluations, equal_compute = random.trace[:, 19], random.trace[:, -1]
    return {
        "first": float(reno.trace[:, 0].mean()),
        "reno": float(reno.scores.mean()),
        "random_equal_evaluations": float(equal_evaluations.mean()),
        "random_equal_compute": float(equal_compute.mean()),
        "over_random_equal_evaluations": float((reno.scores - equal_evaluations).mean()),
        "over_random_equal_compute": float((reno.scores - equal_compute).mean()),
    }


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
        Claim(
            name="D4",
            paper="AlignProp, 2310.03739, and its trl port",
            statement="backpropagating the reward needs a fifth of the pictures that DDPO needs",
            arms={
                "ddpo": "clipped policy gradient on a 4-step chain, 32 trajectories a round",
                "last": "the reward's gradient through the last of 4 steps, 8 pictures a step",
                "random": "the reward's gradient through a random number of last steps",
            },
            measure=sample_efficiency,
            rules=(
                Rule("fewer_decodes_last", 0.8, "pictures saved until DDPO's best proxy reward, last step"),
                Rule("fewer_decodes_random", 0.8, "pictures saved until DDPO's best proxy reward, random depth"),
                Rule("fewer_unet_forwards_last", 0.0, "UNet forwards saved until then, last step"),
                Rule("fewer_unet_forwards_random", 0.0, "UNet forwards saved until then, random depth"),
            ),
            notes="taste_*_minus_ddpo: annotators' true utility at that proxy reward; below 0: hacked sooner.",
        ),
        Claim(
            name="D5",
            paper="PRDP, 2402.08714, section 5",
            statement="with many prompts regression on reward differences stays stable where DDPO falls below the base",
            arms={
                "ddpo": "clipped policy gradient with per-prompt history, 16 trajectories a round",
                "prdp": "proximal reward difference prediction, 8 pairs a round: as many trajectories",
            },
            measure=stability,
            rules=(Rule("collapsed_better_by_prdp_512", 0.0, "collapse rate saved at 512 prompts"),),
            seeds=10,
            notes="gain_* are final proxy rewards over the base's; the rates of learning are equal for both.",
        ),
        Claim(
            name="alt-4",
            paper="ReNO, 2406.04312",
            statement="optimising the starting noise beats drawing as many fresh noises",
            arms={
                "reno": "20 iterations of gradient ascent on the noise of a 4-step chain",
                "random": "fresh noises: as many network evaluations, and as much compute",
            },
            measure=noise_search,
            rules=(
                Rule("over_random_equal_evaluations", 0.0, "reward over random search at equal network evaluations"),
                Rule("over_random_equal_compute", 0.0, "reward over random search at equal compute"),
            ),
            notes="The paper has one-step generators and 50 iterations; this generator needs its 4 steps.",
        ),
    )
}
