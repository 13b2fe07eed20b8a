"""The report on a whole planted run: self-contained, small, and the same bytes every time."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from browser import PROGRAM, Browser
from html_page import Resources
from likeness.core.errors import InputError
from likeness.core.io import digest_path
from likeness.core.step import execute
from likeness.evaluation.report.compare import compare
from likeness.evaluation.report.sections import training
from likeness.preferences.pairs import read_preferences, write_preferences
from likeness.steps.report import SPEC, ReportConfig
from planted_run import LICENCE, planted_run


def written(page: Path) -> dict[str, Path]:
    """Outputs of the step."""
    return {"report": page, "figures": page.with_suffix("")}


@pytest.mark.parametrize("good", [True, False])
def test_the_page_stands_alone_and_says_what_was_decided(good: bool, tmp_path: Path) -> None:
    inputs = planted_run(tmp_path, good=good)
    metrics = execute(SPEC, ReportConfig(), inputs, written(tmp_path / "report.html"))
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
    execute(SPEC, ReportConfig(), inputs, written(tmp_path / "again.html"))
    assert digest_path(tmp_path / "again.html") == digest_path(tmp_path / "report.html")


def test_the_page_says_who_voted_for_reward_and_judge(tmp_path: Path) -> None:
    inputs = planted_run(tmp_path, good=True)
    pairs = [replace(p, annotator=f"person-{i % 5}") for i, p in enumerate(read_preferences(inputs["preferences"]))]
    write_preferences(inputs["preferences"], pairs)
    execute(SPEC, ReportConfig(), inputs, written(tmp_path / "report.html"))
    assert "5 annotators; 5 of them voted for both" in (tmp_path / "report.html").read_text()


def test_training_says_what_it_cost_and_what_that_bought() -> None:
    gained = {"text": -0.003, "identity": 0.1088}
    cost = {"tflop": 7.409, "tflop_per_sample": 0.00617, "reward_gained_per_tflop": gained}
    text = training({"recipe": "refl", "counts": {"unet_forwards": 5416, "decodes": 1200}, "cost": cost})
    assert (
        "Cost: 1,200 decodes, 5,416 unet forwards, 7.409 TFLOP, 0.006 TFLOP a gradient sample; "
        "rewards gained per TFLOP: identity +0.109, text -0.003."
    ) in text
    assert "Cost: 1 decodes." in training({"counts": {"decodes": 1}})  # a run of before costs were counted


def test_pictures_stay_within_their_budget(tmp_path: Path) -> None:
    inputs = planted_run(tmp_path, good=True)
    execute(SPEC, ReportConfig(picture_bytes=150_000), inputs, written(tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text()
    assert sum(len(uri) for uri in re.findall(r'src="(data:[^"]+)"', text)) < 150_000
    assert "more prompts are in the samples artefact" in text


in_a_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    inputs = planted_run(root, good=False)
    out = root / "out"
    execute(SPEC, ReportConfig(), inputs, written(out / "report.html"))
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
    cost = " ".join(re.sub(r"<[^>]+>", " ", text[text.index("Cost of training") :]).split())
    assert "forwards 960 960 TFLOP 7.400 7.400 TFLOP a gradient sample 0.125 0.125" in cost
    assert "not asked alike" not in text


def test_a_comparison_of_one_run_or_of_none_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two runs or more"):
        compare([tmp_path, tmp_path], tmp_path / "out.html")
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="no evaluation"):
        compare([tmp_path / "a", tmp_path], tmp_path / "out.html")
