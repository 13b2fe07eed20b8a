"""The report on a whole planted run: self-contained, small, and the same bytes every time."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from math import exp, sin
from pathlib import Path

import numpy as np
import pytest

from browser import PROGRAM, Browser
from evaluation.planted import BAD, GOOD, rows
from html_page import Resources
from likeness.core.errors import InputError
from likeness.core.io import digest_path, write_json
from likeness.core.step import execute
from likeness.data.images import encode_png
from likeness.data.shards import write_shards
from likeness.evaluation.report.compare import compare
from likeness.evaluation.scores import SUMMARY, Scores, write_scores
from likeness.evaluation.sets import measure_sets, summarise_sets
from likeness.evaluation.suite import summarise
from likeness.models.embedded.portraits import VARIABLE, caption, draw, persons
from likeness.preferences.pairs import Preference, read_preferences, write_preferences
from likeness.steps.gate import SPEC as GATE
from likeness.steps.gate import GateConfig
from likeness.steps.register import SPEC as REGISTER
from likeness.steps.register import RegisterConfig
from likeness.steps.report import SPEC, ReportConfig
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
        root / "lora/training.json", {"recipe": "id_aligner_lora", "counts": {"forwards": 960}, "curves": curves}
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
    sets = measure_sets({"base": drawn[0], "candidate": drawn[1]}, None, ("kid_base", "vendi"), seed=0, replicates=100)
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


@pytest.mark.parametrize("good", [True, False])
def test_the_page_stands_alone_and_says_what_was_decided(good: bool, tmp_path: Path) -> None:
    inputs = planted_run(tmp_path, good=good)
    metrics = execute(SPEC, ReportConfig(), inputs, {"report": tmp_path / "report.html"})
    text = (tmp_path / "report.html").read_text()
    assert metrics["bytes"] == len(text.encode()) < 2_000_000
    page = Resources()
    page.feed(text)
    assert page.open == []
    assert page.found
    assert all(source.startswith("data:image/") for source in page.found)
    assert not re.search(r"https?://|<script|@import|url\(", text)
    assert ("PASSED" in text, "REFUSED" in text) == (good, not good)
    assert ("Registered as version 1" in text) == good
    if not good:
        first = text.index('<li class="no">')
        assert "darkness" in text[first:] or "prompt_fidelity" in text[first:]
        assert text.count('<li class="no">') == 5  # darkness; prompt fidelity, and it in each of three slices
    assert "Looked 2 of 2 times, 48 of 48 prompts" in text
    assert "would pass four times in five" in text
    for expected in (
        "kid_base",
        "12 of 12 expectations hold",
        "reward: identity",
        "6 annotators",
        "face_px",
        LICENCE,
        "gate",
    ):
        assert expected in text, expected
    votes = re.sub(r"<[^>]+>", " ", text[text.index("Set aside, by reason") :])
    assert re.match(r"Set aside, by reason\s+duplicate\s+2\s+self_pair\s+1\b", votes), votes[:200]
    assert "reward and judge share none of them" in text
    assert "0.62 <small>(tiled_face)" in text
    execute(SPEC, ReportConfig(), inputs, {"report": tmp_path / "again.html"})
    assert digest_path(tmp_path / "again.html") == digest_path(tmp_path / "report.html")


def test_the_page_says_who_voted_for_reward_and_judge(tmp_path: Path) -> None:
    inputs = planted_run(tmp_path, good=True)
    pairs = [replace(p, annotator=f"person-{i % 5}") for i, p in enumerate(read_preferences(inputs["preferences"]))]
    write_preferences(inputs["preferences"], pairs)
    execute(SPEC, ReportConfig(), inputs, {"report": tmp_path / "report.html"})
    assert "5 annotators; 5 of them voted for both" in (tmp_path / "report.html").read_text()


def test_pictures_stay_within_their_budget(tmp_path: Path) -> None:
    inputs = planted_run(tmp_path, good=True)
    execute(SPEC, ReportConfig(picture_bytes=150_000), inputs, {"report": tmp_path / "report.html"})
    text = (tmp_path / "report.html").read_text()
    assert sum(len(uri) for uri in re.findall(r'src="(data:[^"]+)"', text)) < 150_000
    assert "more prompts are in the samples artefact" in text


in_a_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    inputs = planted_run(root, good=False)
    out = root / "out"
    execute(SPEC, ReportConfig(), inputs, {"report": out / "report.html"})
    return out / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def test_the_verdict_is_on_the_first_screen_and_nothing_is_fetched(
    page: Path, browser: Browser, tmp_path: Path
) -> None:
    browser.resize(1280, 900)
    browser.open(page.as_uri())
    _, top, _, bottom = browser.box(".verdict")
    assert 0 <= top < bottom < 300
    assert browser.text(".verdict") == "REFUSED"
    fetched = [one["response"]["url"] for one in browser.requests]
    assert all(url.startswith(("file:", "data:", "about:")) for url in fetched), fetched


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_down_and_never_sideways(page: Path, browser: Browser, scheme: str) -> None:
    browser.scheme(scheme)
    browser.resize(390, 844, mobile=True)
    browser.open(page.as_uri())
    assert browser.run("document.documentElement.scrollWidth") <= 390
    back, ink = (
        browser.run(f"getComputedStyle(document.body).{name}.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => +a + +b, 0)")
        for name in ("backgroundColor", "color")
    )
    assert (back > ink) == (scheme == "light")
    assert abs(back - ink) > 400  # of 765: text is read on its ground


@in_a_browser
def test_the_slider_uncovers_the_picture_before(page: Path, browser: Browser) -> None:
    browser.resize(1280, 900)
    browser.open(page.as_uri())
    covered = "getComputedStyle(document.querySelector('.slide img + img')).clipPath"
    assert "50%" in browser.run(covered)
    slider = "document.querySelector('.slide input')"
    browser.run(f"{slider}.value = 80, {slider}.dispatchEvent(new Event('input'))")
    assert "80%" in browser.run(covered)


def _finished(root: Path, *, good: bool) -> Path:
    """The planted run, where a driver leaves its artefacts."""
    inputs = planted_run(root / "planted", good=good)
    places = {"evaluation_result": "evaluate", "samples": "evaluate", "decision": "gate", "lora": "finetune"}
    for port, node in places.items():
        shutil.copytree(inputs[port], root / node / port)
    return root


def test_two_runs_stand_on_one_page(tmp_path: Path) -> None:
    runs = [_finished(tmp_path / "week1", good=True), _finished(tmp_path / "week2", good=False)]
    compare(runs, tmp_path / "comparison.html")
    text = (tmp_path / "comparison.html").read_text()
    page = Resources()
    page.feed(text)
    assert page.open == []
    assert all(source.startswith("data:image/") for source in page.found)
    assert len(page.found) == 2 * 6  # six prompts that both were asked
    assert text.index("PASSED") < text.index("REFUSED")
    for expected in ("<b>week1</b>", "<b>week2</b>", "darkness_anchored", "identity", "960", "id_aligner_lora"):
        assert expected in text, expected
    assert "not asked alike" not in text


def test_a_comparison_of_one_run_or_of_none_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two runs or more"):
        compare([tmp_path, tmp_path], tmp_path / "out.html")
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="no evaluation"):
        compare([tmp_path / "a", tmp_path], tmp_path / "out.html")
