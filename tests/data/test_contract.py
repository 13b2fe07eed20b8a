"""The data contract of every set, through the step that checks it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import entropy

from likeness.core.errors import ConfigError, DataContractError
from likeness.core.io import digest_path
from likeness.core.step import Metrics, execute
from likeness.data.drift import profile, read_profiles, stability_index
from likeness.data.shards import write_shards
from likeness.steps.check_data import SPEC, CheckDataConfig

SETS = ("images", "kept", "captioned", "train", "evaluation")


def row(number: int, **changes: object) -> dict:
    rng = np.random.default_rng(number)
    return {
        "id": f"{number:016x}",
        "file_name": f"{number}.png",
        "person": f"p{number % 4}",
        "width": 64,
        "height": 64,
        "licence": "CC0-1.0",
        "source": "camera",
        "face_count": 1,
        "face_px": 80.0,
        "det_score": 0.9,
        "yaw": float(rng.normal(0, 10)),
        "pitch": 2.0,
        "roll": 3.0,
        "blur": float(100 * rng.exponential()),
        "caption": "a person",
        "subject_caption": "a photo of {token} person",
    } | changes


def strangers(numbers: range) -> list[dict]:
    rows = [row(n, person="other", subject="other", token="sks") for n in numbers]
    return [{name: value for name, value in one.items() if name != "subject_caption"} for one in rows]


def check(root: Path, sets: dict[str, list[dict]], previous: Path | None = None, **config: object) -> Metrics:
    for name, rows in sets.items():
        write_shards(root / name, rows, rows_per_shard=150)
    inputs = {name: root / name for name in sets} | ({"previous": previous} if previous else {})
    outputs = {port: root / port for port in SPEC.outputs}
    return execute(SPEC, CheckDataConfig(**config), inputs, outputs)


def good(count: int = 40) -> dict[str, list[dict]]:
    rows = [row(i) for i in range(count)]
    return dict.fromkeys(SETS[:4], rows) | {"evaluation": strangers(range(900, 910))}


def test_good_sets_pass_and_their_docs_need_no_network_and_no_clock(tmp_path: Path) -> None:
    for name in "ab":
        assert check(tmp_path / name, good())["sets"] == 5
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b")
    docs = tmp_path / "a/data_docs"
    pages = [page.read_text("utf-8") for page in docs.rglob("*.html")]
    assert len(pages) == 1 + 2 * 6  # an index; expectations and validation of five sets and the balance
    index = (docs / "index.html").read_text("utf-8")
    for suite in (*SETS, "balance"):
        assert f">validations: {suite}</a>" in index
        assert f">expectations: {suite}</a>" in index
    for page in pages:
        assert "http" not in page
        assert "<script" not in page
        assert "<style>" in page
    links = re.findall(r'href="([^"#]+)"', (docs / "index.html").read_text("utf-8"))
    assert any(link.startswith("validations/") for link in links)
    assert all((docs / link).is_file() for link in links)


BROKEN = {
    r"kept: id: column_values_to_be_unique: 1\.png, copy\.png": ("kept", [row(1, file_name="copy.png")]),
    r"images: licence: column_values_to_not_be_null: 102\.png": ("images", [row(102, licence=None)]),
    r"kept: det_score: column_values_to_be_between: 103\.png": ("kept", [row(103, det_score=3.0)]),
    r"kept: yaw: column_values_to_be_between: 104\.png": ("kept", [row(104, yaw=-280.0)]),
    r"captioned: id: column_values_to_match_regex: 105\.png": ("captioned", [row(105, id="not hex")]),
    r"captioned: caption: column_value_lengths_to_be_between: 106\.png": ("captioned", [row(106, caption="")]),
    r"train: subject_caption: column_values_to_match_regex: 107\.png": ("train", [row(107, subject_caption="a man")]),
    r"evaluation: person: column_values_to_not_be_in_set: 911\.png": (
        "evaluation",
        [one | {"person": "p1"} for one in strangers(range(911, 912))],
    ),
    r"kept: blur: column_values_to_be_between: 110\.png, .*114\.png and 3 more": (
        "kept",
        [row(i, blur=-1.0) for i in range(110, 118)],
    ),
}


def test_every_broken_rule_is_named_with_its_set_and_rows_and_nothing_is_published(tmp_path: Path) -> None:
    sets = good()
    for name, rows in BROKEN.values():
        sets[name] = [*sets[name], *rows]
    with pytest.raises(DataContractError) as caught:
        check(tmp_path, sets)
    for message in BROKEN:
        assert re.search(message, caught.value.problem), message
    assert len(caught.value.problem.splitlines()) == 1 + len(BROKEN)
    assert "check_data" in caught.value.remedy
    assert not (tmp_path / "profiles").exists()


def test_a_set_without_a_column_or_without_rows_is_refused(tmp_path: Path) -> None:
    lacking = [{name: value for name, value in row(i).items() if name != "licence"} for i in range(3)]
    with pytest.raises(DataContractError, match=r"kept: table: table_columns_to_match_set: "):
        check(tmp_path, {"images": [row(1)], "kept": lacking})


def test_own_ranges_hold_for_what_the_filter_kept_and_not_before(tmp_path: Path) -> None:
    sets = {"images": [row(1, face_px=10.0), row(2)], "kept": [row(1, face_px=10.0), row(2)]}
    with pytest.raises(DataContractError) as caught:
        check(tmp_path, sets, ranges={"face_px": (24, None)})
    assert caught.value.problem.splitlines()[1:] == ["  kept: face_px: column_values_to_be_between: 1.png"]


@pytest.mark.parametrize("misspelt", [{"ranges": {"face_pxs": (24, None)}}, {"max_share": {"persn": 0.5}}])
def test_a_limit_on_a_column_that_is_not_there_holds_for_nothing_and_is_refused(
    tmp_path: Path, misspelt: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=r"did you mean '(face_px|person)'"):
        check(tmp_path, good(), **misspelt)


def test_one_person_may_not_be_most_of_what_is_learnt(tmp_path: Path) -> None:
    """21 of 40 against a limit of a half; pictures of nobody known do not count."""
    rows = [row(i, person="ada" if i < 21 else f"p{i % 7}" if i < 40 else None) for i in range(60)]
    sets = {"images": rows, "kept": rows, "train": rows}
    with pytest.raises(DataContractError) as caught:
        check(tmp_path, sets)
    assert caught.value.problem.splitlines()[1:] == [
        "  balance: share of person: column_values_to_be_between: person ada"
    ]
    assert check(tmp_path, sets, max_share={"person": 0.525})["sets"] == 3


def test_the_index_is_the_divergence_both_ways() -> None:
    """Against scipy: KL(q || p) + KL(p || q)."""
    before, now = np.array([10, 20, 30, 40]), np.array([25, 25, 30, 20])
    p, q = before / before.sum(), now / now.sum()
    assert stability_index(before, now) == pytest.approx(entropy(q, p) + entropy(p, q))
    assert stability_index(before, before) == 0
    assert np.isfinite(stability_index([0, 10], [10, 0]))


def test_a_profile_counts_every_value_once_in_bins_of_a_tenth(tmp_path: Path) -> None:
    write_shards(tmp_path, [row(i, blur=float(i), yaw=None if i % 2 else 1.0) for i in range(100)])
    found = profile(tmp_path)
    assert found.rows == 100
    assert found.columns["blur"].counts == (10,) * 10
    assert (found.columns["yaw"].values, found.columns["yaw"].missing) == (50, 50)
    assert (found.columns["blur"].least, found.columns["blur"].most, found.columns["blur"].mean) == (0, 99, 49.5)
    assert found.columns["face_count"].counts == (100, 0)  # all in the bin that ends at 1


def test_drift_is_judged_by_column_against_the_version_before(tmp_path: Path) -> None:
    """Blur halves; the index is computed here from the values alone."""
    old = [row(i) for i in range(400)]
    new = [row(i + 1000) for i in range(400)]
    soft = [one | {"blur": one["blur"] / 2} for one in new]
    check(tmp_path / "old", {"images": old, "kept": old})
    previous = tmp_path / "old/profiles"
    assert check(tmp_path / "same", {"images": new, "kept": new}, previous)["expectations"] > 0
    with pytest.raises(DataContractError) as caught:
        check(tmp_path / "soft", {"images": new, "kept": soft}, previous)
    assert caught.value.problem.splitlines()[1:] == [
        "  drift: population_stability_index: column_values_to_be_between: kept.blur"
    ]
    edges = np.quantile([one["blur"] for one in old], np.arange(1, 10) / 10)
    p, q = (np.histogram([one["blur"] for one in rows], [-np.inf, *edges, np.inf])[0] / 400 for rows in (old, soft))
    expected = float(((q - p) * np.log(q / p)).sum())
    assert expected > 0.25
    check(tmp_path / "told", {"images": new, "kept": soft}, previous, max_drift=None)
    now, before = read_profiles(tmp_path / "told/profiles")["kept"], read_profiles(previous)["kept"]
    assert stability_index(before.columns["blur"].counts, now.columns["blur"].against) == pytest.approx(expected, 0.05)


def test_few_values_are_not_judged(tmp_path: Path) -> None:
    old, new = [row(i) for i in range(50)], [row(i, blur=1.0) for i in range(50)]
    check(tmp_path / "old", {"images": old, "kept": old})
    assert check(tmp_path / "new", {"images": new, "kept": new}, tmp_path / "old/profiles")["sets"] == 2
