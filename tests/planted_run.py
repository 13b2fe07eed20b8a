"""A whole planted run, as the report reads it: real gate and registration over invented training and scores."""

from __future__ import annotations

from math import exp, sin
from pathlib import Path

import numpy as np

from evaluation.planted import BAD, GOOD, rows
from likeness.core.io import digest_path, write_json
from likeness.core.step import execute
from likeness.data.images import encode_png
from likeness.data.shards import write_shards
from likeness.evaluation.scores import SUMMARY, Scores, write_scores
from likeness.evaluation.sets import measure_sets, summarise_sets
from likeness.evaluation.suite import summarise
from likeness.models.embedded.portraits import VARIABLE, caption, draw, persons
from likeness.preferences.pairs import Preference, write_preferences
from likeness.steps.gate import SPEC as GATE
from likeness.steps.gate import GateConfig
from likeness.steps.register import SPEC as REGISTER
from likeness.steps.register import RegisterConfig
from rendered import pixels

LICENCE = "LicenseRef-avataaars"


def _samples(folder: Path) -> None:
    people = persons()
    out = []
    for number, person in enumerate(people[200:1000:400]):
        real = list(draw(40, number, [person]))
        other = list(draw(40, number + 10, people))
        for i in range(5):
            about = {"variant": "reference", "subject": f"p{number}", "prompt": "", "prompt_index": i, "seed_index": 0}
            out.append({"image": encode_png(pixels(real[30 + i])), **about})
        for i in range(6):
            for k in range(2):
                prompt = caption(real[i * 2 + k], VARIABLE[:3], name="sks")
                about = {"subject": f"p{number}", "prompt": prompt, "prompt_index": i * 2 + number, "seed_index": k}
                out.append({"image": encode_png(pixels(other[i * 2 + k])), "variant": "base", **about})
                out.append({"image": encode_png(pixels(real[i * 2 + k])), "variant": "candidate", **about})
    for row in out:  # one prompt has one text
        row["prompt"] = next(r["prompt"] for r in out if r["prompt_index"] == row["prompt_index"] and r["prompt"])
    write_shards(folder, out)


def _learnt(root: Path) -> dict[str, Path]:
    image = encode_png(pixels(next(draw(1, 0, persons()))))
    train = [{"image": image, "person": f"p{i % 7}", "licence": LICENCE, "caption": "x"} for i in range(30)]
    write_shards(root / "train", train)
    aside = [{"image": image, "rules": rules} for rules in (["det_score"], ["yaw", "face_px"], ["face_count"])]
    write_shards(root / "quarantine", aside)
    write_shards(root / "undescribed", [{"image": image, "rules": ["no_caption"]}])
    (root / "preferences").mkdir()
    pairs = [
        Preference("p", image, image, kind, fold, f"g{i}", annotator=f"{fold}-{i % 3}")  # type: ignore[arg-type]
        for i in range(6)
        for kind in ("appeal", "structure")
        for fold in ("reward", "judge")
    ]
    write_preferences(root / "preferences", pairs)
    reasons = ["self_pair", "duplicate", "duplicate"]
    write_json(root / "preferences" / "quarantine.json", [{"source": "votes", "reason": one} for one in reasons])
    numbers = {"accuracy": 0.71, "accuracy_low": 0.66, "accuracy_high": 0.76, "calibration_error": 0.04}
    for name in ("reward", "judge"):
        (root / name).mkdir()
        record = numbers | {"train_pairs": 400, "pairs": 120}
        attacks = {"blank": {"rate": 0.125}, "tiled_face": {"rate": 0.625}}
        write_json(root / name / "reliability.json", {"appeal": record | {"attacks": attacks}, "structure": record})
    docs = root / "data_docs/validations/suite"
    docs.mkdir(parents=True)
    (docs / "result.html").write_text("<html><body><h1>12 of 12 expectations hold</h1></body></html>")
    (root / "lora").mkdir()
    steps = list(range(1, 121))
    curves = {
        "step": steps,
        "reward/identity": [0.6 - 0.4 * exp(-s / 40) + 0.03 * sin(s * 1.7) for s in steps],
        "reward/appeal": [0.3 - 0.4 * exp(-s / 60) + 0.05 * sin(s * 2.3) for s in steps],
        "loss/total": [0.2 + 0.6 * exp(-s / 30) + 0.03 * sin(s * 3.1) for s in steps],
    }
    write_json(
        root / "lora/training.json",
        {
            "recipe": "id_aligner_lora",
            "counts": {"forwards": 960},
            "cost": {"tflop": 7.4, "tflop_per_sample": 0.125},
            "curves": curves,
        },
    )
    names = ("train", "quarantine", "undescribed", "preferences", "reward", "judge", "data_docs", "lora")
    return {name: root / name for name in names}


def planted_run(root: Path, *, good: bool) -> dict[str, Path]:
    """Inputs of the report after a planted evaluation, with the real gate and registration."""
    inputs = _learnt(root)
    table = rows(GOOD if good else {**GOOD, **BAD["darkness_anchored"], **BAD["prompt_fidelity_non_inferiority"]})
    result = root / "evaluation_result"
    result.mkdir()
    write_scores(result, table)
    summary = summarise(Scores.from_rows(table), seed=0, resamples=500, confidence=0.95)
    drawn = np.random.default_rng(0).normal(size=(2, 40, 16))
    pictures = {"base": drawn[0], "candidate": drawn[1]}
    sets = measure_sets({"pictures": pictures}, None, ("kid_base", "vendi"), seed=0, replicates=100)
    looks = {"planned": [24, 48], "reached": 1, "why": "all prompts are spent"}
    about = {"sets": summarise_sets(sets, 0.95), "looks": looks, "candidate_digest": digest_path(inputs["lora"])}
    write_json(result / SUMMARY, {**summary, **about})
    inputs |= {"evaluation_result": result, "samples": root / "samples", "decision": root / "decision"}
    _samples(root / "samples")
    lora = {"lora": inputs["lora"]}
    execute(GATE, GateConfig(), {**lora, "evaluation_result": result}, {"decision": root / "decision"})
    config = RegisterConfig(store=str(root / "registry"), licences={"avataaars": LICENCE})
    registration = {"registration": root / "registration"}
    execute(REGISTER, config, {**lora, "decision": root / "decision"}, registration)
    return inputs | registration
