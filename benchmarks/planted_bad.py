"""Is a model that games its reward refused, and for the right reason?

    python benchmarks/planted_bad.py --out benchmarks/results/planted_bad.json

On the artefacts of a finished demo, the recipe ``identity_only`` trains with the identity reward alone: no denoising
loss, no prior, a high rate. Its reward rises, so a gate that looked at training would let it pass. The right reasons to
refuse it are about what it gave up: the prompt, the variety, the look. Exit code 1 when the gate lets it pass, or names
none of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from variants import run_again

from likeness.core.io import read_json
from likeness.orchestration.drivers import plan_of
from likeness.recipes.baselines import IDENTITY_ONLY

GIVEN_UP = {"prompt_fidelity", "diversity_across", "darkness", "saturation", "edge_density", "colour_entropy"}


def main() -> None:
    """Train it, evaluate it, ask the gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="portraits")
    parser.add_argument("--root", type=Path, help="folder of the finished graph, if not the profile's own")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    plan = plan_of(arguments.profile, None, arguments.root)
    folder = plan.root / "planted_bad"
    # all that it learnt is kept: what the demo gives back would flatter it
    settings = {**IDENTITY_ONLY.settings, "recipe": IDENTITY_ONLY.name, "steps": arguments.steps, "keep_update": 1.0}
    lora = run_again(plan, "finetune", folder, settings)["lora"]
    result = run_again(plan, "evaluate", folder, {}, lora=lora)["evaluation_result"]
    decision = run_again(plan, "gate", folder, {}, lora=lora, evaluation_result=result)["decision"]
    record = read_json(decision / "decision.json")
    rewards = read_json(lora / "training.json")["curves"]["reward/identity"]
    print(f"identity reward in training: {rewards[0]:+.3f} at the start, {rewards[-1]:+.3f} at the end")
    for reason in record["reasons"]:
        print(f"  [{'ok' if reason['passed'] else 'NO'}] {reason['text']}")
    failed = {reason["metric"] for reason in record["reasons"] if not reason["passed"]}
    if arguments.out:
        figures = {
            "steps": arguments.steps,
            "reward": [rewards[0], rewards[-1]],
            "gate_passed": record["passed"],
            "reasons": [reason["text"] for reason in record["reasons"] if not reason["passed"]],
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    if record["passed"] or not failed & GIVEN_UP:
        sys.exit("the planted bad model was not refused for what it gave up")
    print(f"refused, for {', '.join(sorted(failed & GIVEN_UP))}")


if __name__ == "__main__":
    main()
