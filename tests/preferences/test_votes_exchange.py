"""Votes through files and the exports of labelling tools, there and back."""

from __future__ import annotations

import base64
import csv
import json
import tempfile
from pathlib import Path

import datasets
import pytest
from hypothesis import HealthCheck, given, settings

from likeness.core.errors import InputError
from likeness.core.io import digest_bytes
from likeness.preferences.votes.argilla import to_argilla
from likeness.preferences.votes.ballot import Ballot, Ranking
from likeness.preferences.votes.formats import read_ballots
from likeness.preferences.votes.label_studio import local_path, to_label_studio
from likeness.preferences.votes.tables import FILES
from likeness.preferences.votes.writing import write_ballots
from tiny_pairs import picture
from tiny_votes import ballots, row

QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(folder: Path, **settings: object) -> list[Ballot]:
    found = read_ballots(folder, **settings)
    assert found.apart == []
    return [ballot for _, ballot in found.votes]


@pytest.mark.parametrize("name", FILES)
@QUICK
@given(votes=ballots)
def test_every_table_gives_back_the_votes_it_was_written_from(name: str, votes: list[Ballot]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_ballots(Path(folder) / name, votes)
        assert read(Path(folder)) == votes


@QUICK
@given(votes=ballots)
def test_label_studio_gives_back_the_votes(votes: list[Ballot]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "votes.json").write_text(json.dumps(to_label_studio(votes)))
        assert read(Path(folder), form="label_studio") == votes


@QUICK
@given(votes=ballots)
def test_argilla_gives_back_the_votes_also_as_rows_of_datasets(votes: list[Ballot]) -> None:
    rows = to_argilla(votes)
    if rows:
        rows = list(datasets.Dataset.from_list(rows))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "votes.json").write_text(json.dumps(rows))
        assert read(Path(folder), form="argilla") == votes


def test_plain_datasets_reads_the_table(tmp_path: Path) -> None:
    vote = Ballot.model_validate(row(time="2026-01-02T03:04:05Z", rating_a=4))
    write_ballots(tmp_path / "votes.parquet", [vote])
    file = str(tmp_path / "votes.parquet")
    rows = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    assert rows[0] == vote.model_dump()


TASK = {
    "id": 1,
    "data": {
        "text": "a portrait",
        "image1": "/data/upload/3/0a1b2c3d-x.png",
        "image2": "/data/local-files/?d=in/y.png",
    },
    "annotations": [
        {
            "completed_by": {"id": 4, "email": "ada@example.org"},
            "was_cancelled": False,
            "created_at": "2021-03-09T22:16:08.728353Z",
            "result": [{"from_name": "pw", "to_name": "i1,i2", "type": "pairwise", "value": {"selected": "right"}}],
        },
        {"completed_by": 7, "result": [{"from_name": "tie", "type": "choices", "value": {"choices": ["Tie"]}}]},
        {"completed_by": 8, "was_cancelled": True, "result": []},
        {"completed_by": 9, "result": []},
    ],
    "predictions": [{"result": [{"type": "pairwise", "value": {"selected": "left"}}]}],
}


def test_a_task_that_label_studio_exported(tmp_path: Path) -> None:
    """The document's own shape (labelstud.io/guide/task_format): uploads, two forms of author, no key of ours."""
    (tmp_path / "votes.json").write_text(json.dumps([TASK, {"id": 2, "data": {}, "annotations": []}]))
    found = read_ballots(tmp_path, columns={"prompt": "text"})
    first, tie = (ballot for _, ballot in found.votes)
    assert (first.image_a, first.image_b, first.choice, first.first) == ("x.png", "in/y.png", "b", "a")
    assert (first.annotator, first.time) == ("ada@example.org", "2021-03-09T22:16:08.728353+00:00")
    assert (tie.choice, tie.annotator, tie.time, tie.kind) == ("tie", "7", None, "appeal")
    assert sorted(one.reason for one in found.apart) == ["no_vote", "skipped", "unknown_choice"]


def minimal(number: int, annotator: object, **said: object) -> dict[str, object]:
    """A record of JSON_MIN, with the keys that its converter writes and in its order."""
    return {
        "text": "a portrait",
        "image1": "/data/upload/3/0a1b2c3d-x.png",
        "image2": "/data/local-files/?d=in/y.png",
        "id": number,
        **said,
        "annotator": annotator,
        "annotation_id": 100 + number,
        "created_at": "2021-03-09T22:16:08.728353Z",
        "updated_at": "2021-03-09T22:16:08.728378Z",
        "lead_time": 4.288,
    }


MINIMAL = [
    minimal(1, "ada@example.org", pw=[{"selected": "right"}], rating_a=[{"rating": 4}]),
    minimal(2, 7, pw=[{"selected": "left"}]),
    minimal(3, 8, tie="Tie"),
    minimal(4, 9, tie=[{"choices": ["both are lovely", "tie"]}]),
    minimal(5, 10),
]


@pytest.mark.parametrize("name", ["votes.json", "votes.csv"])
def test_the_minimal_exports_of_label_studio_say_the_same_as_the_full_one(name: str, tmp_path: Path) -> None:
    """JSON_MIN, and CSV, whose cells hold as JSON text what is no text."""
    if name.endswith(".json"):
        (tmp_path / name).write_text(json.dumps(MINIMAL))
    else:
        columns = list(dict.fromkeys(key for one in MINIMAL for key in one))
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            cells = [{k: json.dumps(v) if isinstance(v, list) else v for k, v in one.items()} for one in MINIMAL]
            writer.writerows(cells)
    found = read_ballots(tmp_path, columns={"prompt": "text"})
    assert [(one.annotator, one.choice, one.first, one.rating_a) for _, one in found.votes] == [
        ("ada@example.org", "b", "a", 4.0),
        ("7", "a", "a", None),
        ("8", "tie", "a", None),
        ("9", "tie", "a", None),
    ]
    first = found.votes[0][1]
    assert (first.image_a, first.image_b, first.group) == ("x.png", "in/y.png", "a portrait")
    assert first.time == "2021-03-09T22:16:08.728353+00:00"
    assert [one.reason for one in found.apart] == ["unknown_choice"]


def test_a_table_of_our_own_with_a_tools_columns_is_still_ours(tmp_path: Path) -> None:
    (tmp_path / "votes.json").write_text(json.dumps([row(annotation_id=3)]))
    assert read(tmp_path)[0].annotator == "ada"


def test_only_label_studios_own_addresses_are_taken_apart() -> None:
    assert local_path("https://labels.example/data/upload/0a1b2c3d-a%20b.png") == "a b.png"
    assert local_path("images/a.png") == "images/a.png"
    assert local_path("https://example.org/a.png") == "https://example.org/a.png"


NESTED = {
    "id": "r1",
    "fields": {"prompt": "a portrait", "image_a": "x.png", "image_b": "y.png"},
    "metadata": {"group": "g1"},
    "suggestions": {"preference": {"value": "image_a", "score": 0.9, "agent": "model"}},
    "responses": {
        "preference": [
            {"value": "image_b", "user_id": "u1"},
            {"value": ["image_a", "image_b"], "user_id": "u2"},
            {"value": [{"value": "image_a", "rank": 1}, {"value": "image_b", "rank": 1}], "user_id": "u3"},
            {"value": "both are lovely", "user_id": "u4"},
        ],
        "rating_a": [{"value": 2, "user_id": "u1"}],
    },
}
VERSION_1 = {
    "fields": NESTED["fields"],
    "responses": [
        {"user_id": "u5", "status": "submitted", "values": {"preference": {"value": "image_a"}}},
        {"user_id": "u6", "status": "draft", "values": {"preference": {"value": "image_a"}}},
    ],
}


def test_records_that_argilla_exported(tmp_path: Path) -> None:
    """Labels, rankings with and without ranks, other people's answers: each its own vote; suggestions are none."""
    (tmp_path / "votes.json").write_text(json.dumps([NESTED, VERSION_1, {"fields": {}, "responses": {}}]))
    found = read_ballots(tmp_path)
    assert [(one.annotator, one.choice, one.rating_a) for _, one in found.votes] == [
        ("u1", "b", 2.0),
        ("u2", "a", None),
        ("u3", "tie", None),
        ("u5", "a", None),
    ]
    assert {one.group for _, one in found.votes[:3]} == {"g1"}
    assert sorted(one.reason for one in found.apart) == ["no_vote", "not_submitted", "unknown_choice"]


def test_pictures_inside_the_table_are_known_by_their_content(tmp_path: Path) -> None:
    data = picture(1)["bytes"]
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    (tmp_path / "votes.jsonl").write_text(json.dumps(row(image_a=uri)) + "\n")
    found = read_ballots(tmp_path)
    assert found.inline == {digest_bytes(data): data}
    assert found.votes[0][1].image_a == digest_bytes(data)


def test_a_ranking_is_every_pair_of_its_pictures() -> None:
    values = {"prompt": "p", "annotator": "ada", "images": ["x", "y", "z"], "ranking": ["z", ["x", "y"]]}
    found = {(one.image_a, one.image_b): one.choice for one in Ranking.model_validate(values).ballots()}
    assert found == {("x", "y"): "tie", ("x", "z"): "b", ("y", "z"): "b"}


def test_a_ranking_fits_in_a_cell(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text(
        'prompt;annotator;images;ranking\np;ada;"[""x"",""y""]";"[""y"",""x""]"\np;bo;"[""x"",""y""]";"[""y""]"\n'
    )
    found = read_ballots(tmp_path)
    assert [(one.image_a, one.image_b, one.choice, one.first) for _, one in found.votes] == [("x", "y", "b", "a")]
    assert [(one.reason, one.row["line"]) for one in found.apart] == [("bad_ranking", 3)]


def test_a_column_that_is_missing_throughout_is_named_with_its_likeness(tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text("prompt,image_a,image_b,chioce,annotator\np,x,y,a,ada\n")
    with pytest.raises(InputError, match=r"no column choice(.|\n)*did you mean 'chioce'"):
        read_ballots(tmp_path)
    assert read(tmp_path, columns={"choice": "chioce"})[0].choice == "a"


def test_two_tables_or_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"votes\.csv, votes\.jsonl"):
        read_ballots(tmp_path)
    (tmp_path / "votes.csv").touch()
    (tmp_path / "votes.jsonl").touch()
    with pytest.raises(InputError, match="keep one"):
        read_ballots(tmp_path)
