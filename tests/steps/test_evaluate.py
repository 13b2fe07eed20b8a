"""evaluate on a tiny random pipeline with the real judges' code."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from likeness.core.errors import InputError, UnknownNameError
from likeness.core.io import digest_path, write_json
from likeness.core.step import execute
from likeness.data.images import decode, encode_png
from likeness.data.shards import read_rows, write_shards
from likeness.evaluation.rules import Demand, Rule
from likeness.evaluation.scores import Scores
from likeness.models.adapters.lora import FILE as LORA
from likeness.models.embedded.portraits import FACTORS, VARIABLE, caption, draw_person, labels, persons
from likeness.models.faces.pack import recogniser_digest
from likeness.models.feature_cache import FILE
from likeness.steps.evaluate import METRIC_NAMES, NEUTRAL_METRIC_NAMES, SET_METRIC_NAMES, SPEC, EvaluateConfig
from rendered import pixels
from tiny_classifier import tiny_classifier
from tiny_draws import Draws
from tiny_finetune import write_reward
from tiny_training import disturb, policy_of

PACK = Path(__file__).parents[2] / "assets/embedded/faces/models/portraits-judge"
CONFIG = EvaluateConfig(threads=1, prompts=4, steps=2, batch=3, det_size=64, sample_prompts=2, resamples=200)


def _subjects(folder: Path, count: int, seed: int) -> Path:
    import numpy as np

    rng = np.random.default_rng(seed)
    rows = []
    for person, token in zip(persons()[100:900:400], ("sks", "ohwx"), strict=True):
        for _ in range(count):
            portrait = draw_person(person, rng)
            words = {"subject": portrait.person, "token": token, "caption": caption(portrait, VARIABLE, name=token)}
            factors = {name: FACTORS[name][value] for name, value in labels(portrait).items()}
            rows.append({"image": encode_png(pixels(portrait)), **factors, **words})
    write_shards(folder, rows)
    return folder


def _oracle(folder: Path) -> Path:
    from likeness.models.embedded.oracle import AttributeReader, build_reader

    folder.mkdir()
    AttributeReader(build_reader()).save(folder)
    return folder


def _lora(folder: Path, base: Path) -> Path:
    policy = policy_of(base, rank=2, alpha=2.0)
    disturb(policy, 0.5)
    folder.mkdir()
    policy.save(folder)
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, sd15_folder: Path, clip_folder: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("evaluate")
    return {
        "base_model": sd15_folder,
        "lora": _lora(root / "lora", sd15_folder),
        "references": _subjects(root / "references", 3, 1),
        "evaluation": _subjects(root / "evaluation", 4, 2),
        "judge": write_reward(root / "judge", clip_folder),
        "encoder": clip_folder,
        "judge_faces": PACK,
        "oracle": _oracle(root / "oracle"),
    }


def _run(inputs: dict[str, Path], root: Path, config: EvaluateConfig = CONFIG) -> tuple[dict[str, Any], Path, Path]:
    outputs = {"evaluation_result": root / "result", "samples": root / "samples"}
    return execute(SPEC, config, inputs, outputs), outputs["evaluation_result"], outputs["samples"]


def test_every_variant_sees_the_same_prompts_and_the_run_is_reproducible(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    with_incumbent = {**inputs, "incumbent": inputs["lora"]}
    metrics, result, samples = _run(with_incumbent, tmp_path / "a")
    rows = pq.read_table(result / "scores.parquet").to_pylist()
    assert len(rows) == 3 * 4 * 2
    asked = {v: [(r["prompt"], r["subject"]) for r in rows if r["variant"] == v] for v in ("base", "candidate")}
    assert asked["base"] == asked["candidate"]
    assert all(" person" in prompt and "skin" not in prompt for prompt, _ in asked["base"])
    scores = Scores.read(result)
    assert set(METRIC_NAMES) <= set(scores.columns)
    assert (scores.difference("saturation", "candidate", "base") != 0).any()
    assert (scores.difference("saturation", "candidate", "incumbent") == 0).all()
    summary = json.loads((result / "summary.json").read_text())
    assert summary["baseline"] == "incumbent"
    assert summary["candidate_digest"] == digest_path(inputs["lora"])
    assert metrics["saturation_difference"] == 0
    kept = read_rows(samples)
    assert [r["variant"] for r in kept].count("candidate") == 4
    assert [r["variant"] for r in kept].count("reference") == 6
    _, again, samples_again = _run(with_incumbent, tmp_path / "b")
    assert digest_path(again) == digest_path(result)
    assert digest_path(samples_again) == digest_path(samples)


def test_an_evaluation_that_was_killed_goes_on_to_the_same_bytes(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the first batch of the second variant: the base's pictures are kept."""
    monkeypatch.setenv("LIKENESS_CACHE", "")
    _, whole, whole_samples = _run(inputs, tmp_path / "whole")
    batches = -(-CONFIG.prompts * CONFIG.seeds // CONFIG.batch)
    draws = Draws(monkeypatch, fatal=batches + 1)
    with pytest.raises(KeyboardInterrupt):
        _run(inputs, tmp_path / "cut")
    _, cut, cut_samples = _run(inputs, tmp_path / "cut")
    assert draws.count == 2 * batches + 1
    assert digest_path(cut) == digest_path(whole)
    assert digest_path(cut_samples) == digest_path(whole_samples)


def test_the_base_models_pictures_are_drawn_once_for_all_candidates_and_those_of_a_person_are_not_cached(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", "")
    _, plain, plain_samples = _run(inputs, tmp_path / "plain")
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
    batches = -(-CONFIG.prompts * CONFIG.seeds // CONFIG.batch)
    for turn, drawn in (("first", 2 * batches), ("second", batches)):
        draws = Draws(monkeypatch, fatal=-1)
        _, result, samples = _run(inputs, tmp_path / turn)
        monkeypatch.undo()
        monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path / "cache"))
        assert draws.count == drawn
        assert digest_path(result) == digest_path(plain)
        assert digest_path(samples) == digest_path(plain_samples)
    with closing(sqlite3.connect(tmp_path / "cache" / FILE)) as database:
        (keys,) = zip(*database.execute("SELECT key FROM features"), strict=True)
    assert len(keys) == CONFIG.prompts * CONFIG.seeds
    assert {key.partition("-")[0] for key in keys} == {digest_path(inputs["base_model"])}


def test_a_picture_of_the_training_set_is_a_copy(inputs: dict[str, Path], tmp_path: Path) -> None:
    """The base model's own pictures as the training set: every picture of the base is then a copy of one."""
    _, result, samples = _run(inputs, tmp_path / "first", CONFIG.model_copy(update={"sample_prompts": CONFIG.prompts}))
    drawn = [row for row in read_rows(samples) if row["variant"] == "base"]
    write_shards(tmp_path / "train", [{"image": row["image"]} for row in drawn])
    _, known, _ = _run(inputs | {"train": tmp_path / "train"}, tmp_path / "second")
    before, after = (Scores.read(folder).mean("copy_paste", "base") for folder in (result, known))
    assert after == pytest.approx(1.0)
    assert (before < 0.99).all()


def _looks(inputs: dict[str, Path], root: Path, *rules: Rule) -> tuple[dict[str, Any], dict[str, Any], Path]:
    config = CONFIG.model_copy(update={"prompts": 8, "looks": (4,), "demand": Demand(rules=rules)})
    metrics, result, _ = _run(inputs, root, config)
    return metrics, json.loads((result / "summary.json").read_text())["looks"], result


def test_it_stops_at_the_look_where_the_answer_is_clear(inputs: dict[str, Path], tmp_path: Path) -> None:
    always = Rule(metric="darkness", comparison="absolute", low=-1, high=2)
    never = Rule(metric="darkness", comparison="absolute", low=2)
    open_ = Rule(metric="saturation", comparison="superiority", against="base")
    metrics, looks, result = _looks(inputs, tmp_path / "always", always)
    assert looks == {"planned": [4, 8], "reached": 0, "why": "every rule holds"}
    assert metrics["prompts"] == len(Scores.read(result).mean("darkness", "base")) == 4
    _, looks, _ = _looks(inputs, tmp_path / "never", always, never)
    assert looks["why"] == "refused for darkness_absolute"
    metrics, looks, result = _looks(inputs, tmp_path / "open", open_)
    assert looks == {"planned": [4, 8], "reached": 1, "why": "all prompts are spent"}
    assert metrics["prompts"] == 8
    # The first look's prompts are those of an evaluation that stopped there, to the bit.
    whole, first = Scores.read(result), Scores.read(tmp_path / "always/result")
    for metric in ("saturation", "text_similarity", "aesthetic"):
        assert (whole.first(4).mean(metric, "candidate") == first.mean(metric, "candidate")).all(), metric


def test_sets_are_measured_on_one_reading_of_each_picture(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirteen metrics and four set metrics of two variants: one encoder forward a picture, one face pass."""
    from likeness.evaluation import readings
    from likeness.models.encoders import DualEncoder

    seen = {"encoder": 0, "faces": 0}
    vision, embed = DualEncoder._vision, readings.Judges.embed_faces

    def counted(self: Any, images: Any) -> Any:
        seen["encoder"] += len(images)
        return vision(self, images)

    def embedded(self: Any, pictures: Any) -> Any:
        seen["faces"] += len(pictures)
        return embed(self, pictures)

    monkeypatch.setattr(DualEncoder, "_vision", counted)
    monkeypatch.setattr(readings.Judges, "embed_faces", embedded)
    config = CONFIG.model_copy(update={"neutral_prompts": 3})
    metrics, result, _ = _run({**inputs, "photographs": inputs["evaluation"]}, tmp_path, config)
    neutral = 2 * config.neutral_prompts
    drawn, held_out, references = 2 * CONFIG.prompts * CONFIG.seeds, 8, 6
    assert seen["faces"] == drawn + 2 * held_out + neutral  # the targets, the photographs' own levels, and no subject
    assert seen["encoder"] == drawn + held_out + references + held_out  # the population
    sets = Scores.read(result).sets
    assert set(sets) == {*SET_METRIC_NAMES, *NEUTRAL_METRIC_NAMES}
    assert metrics["kid_base_candidate"] == sets["kid_base"]["candidate"].value


def test_pictures_are_looked_at_where_a_classifier_says_what_is_unsafe(inputs: dict[str, Path], tmp_path: Path) -> None:
    from likeness.models.image_classifier import ImageClassifier

    folder = tiny_classifier(tmp_path / "nsfw")
    config = CONFIG.model_copy(update={"sample_prompts": CONFIG.prompts, "seeds": 1})
    _, result, samples = _run(inputs | {"nsfw": folder}, tmp_path, config)
    scores, classifier = Scores.read(result), ImageClassifier.load(folder)
    for variant in ("base", "candidate"):
        drawn = [decode(row["image"]) for row in read_rows(samples) if row["variant"] == variant]
        told = [classifier.probabilities(pixels) for pixels in drawn]
        assert scores.mean("unsafe", variant) == pytest.approx([each["NSFW"] + each["porn"] for each in told])
    asked = CONFIG.model_copy(update={"metrics": ("unsafe",)})
    with pytest.raises(InputError, match="nothing tells evaluate what is unsafe"):
        _run(inputs, tmp_path / "blind", asked)


def test_a_variant_is_weighed_in_operations_and_bytes(inputs: dict[str, Path], tmp_path: Path) -> None:
    """The compute is that of all steps counted."""
    from likeness.models.generator import generate, load_pipeline
    from likeness.training.flops import FlopCounter

    config = CONFIG.model_copy(update={"steps": 5})
    _, result, _ = _run(inputs, tmp_path, config)
    sets = Scores.read(result).sets
    assert sets["size"]["base"].value == 0
    assert sets["size"]["candidate"].value == (inputs["lora"] / LORA).stat().st_size / 1e6
    assert sets["compute"]["candidate"].value > sets["compute"]["base"].value
    prompt = pq.read_table(result / "scores.parquet").to_pylist()[0]["prompt"]
    with FlopCounter() as counter:
        generate(load_pipeline(inputs["base_model"]), [prompt], [0], steps=5, guidance_scale=3.5, batch=1)
    assert sets["compute"]["base"].value == pytest.approx(counter.flops / 1e12, rel=1e-9)
    assert sets["compute"]["base"].interval().low == sets["compute"]["base"].value


def test_a_misspelt_metric_fails_with_the_nearest_name(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"metrics": ("identiti",)})
    with pytest.raises(UnknownNameError, match="identity"):
        _run(inputs, tmp_path, config)


def test_the_recogniser_that_rewarded_may_not_judge(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Whatever the pack is called: it is the recogniser's file that counts."""
    pack = tmp_path / "faces/models/renamed"
    shutil.copytree(PACK, pack)
    lora = shutil.copytree(inputs["lora"], tmp_path / "lora")
    write_json(lora / "training.json", {"reward_recogniser": recogniser_digest(pack)})
    with pytest.raises(InputError, match="cannot judge") as caught:
        _run({**inputs, "lora": lora}, tmp_path / "out")
    assert "judge_faces" in caught.value.remedy
    assert not (tmp_path / "out/result").exists()
    with pytest.raises(InputError, match="cannot judge"):
        _run({**inputs, "incumbent": lora}, tmp_path / "out")
