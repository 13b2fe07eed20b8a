"""The source votes: what becomes a preference, what is kept apart and why, and what is refused."""

from __future__ import annotations

import io
import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from likeness.core.errors import InputError
from likeness.core.io import canonical_json, digest_bytes
from likeness.data.images import decode
from likeness.preferences.pairs import Preference
from likeness.preferences.votes.cycles import EXACT, path, smallest_feedback
from tiny_pairs import picture
from tiny_votes import mined, reasons, row, write_jsonl, write_pictures


def shows(preference: Preference) -> tuple[int, int]:
    """Numbers of the pictures chosen and rejected."""
    pixels = {decode(picture(number, 8)).tobytes(): number for number in range(13)}
    return pixels[decode(preference.chosen).tobytes()], pixels[decode(preference.rejected).tobytes()]


def test_a_vote_becomes_the_pair_it_says(tmp_path: Path) -> None:
    rows = [
        row(choice="b", first="b", time="2026-01-02T03:04:05+02:00", rating_a=2, rating_b=5),
        row(choice="b", first="a", annotator="bo"),
        row(choice="tie", annotator="cy", kind="structure", group="g"),
        row(choice="a", annotator="cy", kind="structure", group="g", image_a="2.png", first=None),
    ]
    first, second, tie, last = mined(write_jsonl(tmp_path / "votes", rows)).preferences
    assert shows(first) == shows(second) == (1, 0)
    assert (first.swapped, second.swapped, last.swapped) == (False, True, None)
    assert (first.chosen_rating, first.rejected_rating) == (5.0, 2.0)
    assert first.time == "2026-01-02T01:04:05+00:00"
    assert (first.tie, tie.tie) == (False, True)
    assert (first.group, tie.group, tie.kind) == ("prompt-a portrait", "prompt-g", "structure")


def test_strength_is_the_share_of_the_pairs_votes_that_agree(tmp_path: Path) -> None:
    """Of four people two prefer 0, one 1 (asked the other way round), one neither; nobody else saw 2 and 3."""
    rows = [
        row(annotator="ada"),
        row(annotator="bo"),
        row(annotator="cy", image_a="1.png", image_b="0.png"),
        row(annotator="di", choice="tie"),
        row(annotator="ada", image_a="2.png", image_b="3.png"),
        row(annotator="bo", prompt="another portrait"),
    ]
    found = mined(write_jsonl(tmp_path / "votes", rows)).preferences
    assert [one.strength for one in found] == [0.5, 0.5, 0.25, 0.25, None, None]


def test_groups_are_never_on_both_folds(tmp_path: Path) -> None:
    rows = [row(prompt=f"portrait {i % 12}", annotator=f"person {i}") for i in range(36)]
    found = mined(write_jsonl(tmp_path / "votes", rows)).preferences
    folds = {one.group: {other.fold for other in found if other.group == one.group} for one in found}
    assert all(len(fold) == 1 for fold in folds.values())
    assert {fold for each in folds.values() for fold in each} == {"reward", "judge"}


BAD = {
    "unknown_choice": row(choice="left"),
    "unknown_first": row(first="left"),
    "bad_time": row(time="yesterday"),
    "unknown_kind": row(kind="how nice?"),
    "rating_out_of_range": row(rating_b=6),
    "missing_value": {key: value for key, value in row().items() if key != "annotator"},
    "unknown_image": row(image_a="99.png"),
    "unreadable_image": row(image_b="broken.png"),
    "self_pair": row(image_b="copy.bmp"),
    "not_utf8": row(prompt="\ud83d"),
    "bad_ranking": {**row(), "images": ["0.png", "1.png"], "ranking": ["0.png", "0.png"]},
    "bad_value": row(prompt=["a", "list"]),
}
MORE = [
    ("bad_time", row(time=1700000000)),
    ("bad_time", row(time="0001-01-01T00:00:00+23:00")),
    ("rating_out_of_range", row(rating_a=float("nan"))),
    ("missing_value", row(prompt="  ")),
    ("unknown_image", row(image_a="../outside.png")),
    ("unknown_image", row(image_a="https://example.org/0.png")),
    ("unknown_image", row(image_a=".")),
    ("unknown_choice", row(choice="?", line=7) | {"\ud83d": {"\ud83d": float("inf")}}),
]


@pytest.mark.parametrize(("reason", "bad"), [*BAD.items(), *MORE])
def test_every_bad_row_is_kept_apart_with_its_reason_and_line(reason: str, bad: dict, tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "votes", [row(annotator="bo"), bad, row(annotator="cy")])
    (tmp_path / "outside.png").write_bytes(picture(9, 8)["bytes"])
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.open(io.BytesIO(picture(0, 8)["bytes"])).save(folder / "copy.bmp")
    found = mined(folder)
    assert reasons(found) == [(reason, 2)]
    assert [one.annotator for one in found.preferences] == ["bo", "cy"]
    canonical_json([dict(one.row) for one in found.quarantined]).encode()  # what quarantine.json is written by


def test_a_scale_is_what_the_config_says(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "votes", [row(rating_a=9), row(annotator="bo", rating_a=0.5)])
    assert reasons(mined(folder, rating_scale=(0, 10))) == []
    assert reasons(mined(folder, rating_scale=(1, 10))) == [("rating_out_of_range", 2)]


def test_lines_that_are_no_rows_are_kept_apart(tmp_path: Path) -> None:
    folder = write_jsonl(tmp_path / "votes", [row()])
    with (folder / "votes.jsonl").open("ab") as file:
        file.write(b'{"prompt": "caf\xe9"}\n\n[1, 2]\n' + json.dumps(row(annotator="bo")).encode()[:-9])
    found = mined(folder)
    assert reasons(found) == [("not_utf8", 2), ("malformed_row", 4), ("malformed_row", 5)]
    assert "line 2" in found.quarantined[0].detail
    assert len(found.preferences) == 1


HEADER = "prompt,image_a,image_b,choice,annotator\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "votes")
    text = HEADER + "un caf\xe9,0.png,1.png,a,\u0160\xe1rka\n"
    (folder / "votes.csv").write_bytes(text.encode(encoding))
    if encoding == "utf-16-be":  # without a byte-order mark
        with pytest.raises(InputError, match="byte-order mark"):
            mined(folder)
        return
    (vote,) = mined(folder).preferences
    assert (vote.prompt, vote.annotator) == ("un caf\xe9", "\u0160\xe1rka")


def test_csv_says_which_line_is_not_utf8_also_after_a_prompt_of_two_lines(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "votes")
    rows = b'"two\nlines",0.png,1.png,a,ada\ncaf\xe9,0.png,1.png,a,ada\n'
    rows += b"q,0.png,1.png,a,ada,extra\nr,0.png,1.png,a,ada\n"
    (folder / "votes.csv").write_bytes(HEADER.encode() + rows)
    found = mined(folder)
    assert reasons(found) == [("not_utf8", 4), ("malformed_row", 5)]
    assert [one.prompt for one in found.preferences] == ["two\nlines", "r"]


def test_a_quote_that_never_closes_would_swallow_rows_and_is_refused(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "votes")
    (folder / "votes.csv").write_text(HEADER + 'p,0.png,1.png,a,ada\n"q,0.png,1.png,a,ada\nr,0.png,1.png,a,bo\n')
    with pytest.raises(InputError, match="line 3"):
        mined(folder)


def test_candidates_are_known_by_digest_and_by_the_name_of_a_file_made_of_it(tmp_path: Path) -> None:
    digest = [digest_bytes(picture(number, 8)["bytes"]) for number in (10, 11)]
    rows = [row(image_a=digest[0], image_b=f"images/{digest[1]}.png"), row(image_a=digest[0][:16], annotator="bo")]
    found = mined(write_jsonl(tmp_path / "votes", rows)).preferences
    assert [shows(one) for one in found] == [(10, 11), (10, 1)]


def test_of_duplicates_the_latest_stays_and_contradictions_both_count(tmp_path: Path) -> None:
    rows = [
        row(time="2026-01-01T10:00:00Z"),
        row(time="2026-01-01T09:00:00Z"),  # earlier, though further down
        row(time="2026-01-01T08:00:00Z", image_a="1.png", image_b="0.png"),  # of the other mind
        row(),  # no time: the oldest
        row(prompt="another portrait"),  # another question
        row(annotator="bo"),
    ]
    found = mined(write_jsonl(tmp_path / "votes", rows))
    assert reasons(found) == [("duplicate_vote", 2), ("duplicate_vote", 4)]
    assert [shows(one) for one in found.preferences] == [(0, 1), (1, 0), (0, 1), (0, 1)]
    assert [one.strength for one in found.preferences] == [2 / 3, 1 / 3, None, 2 / 3]
    assert found.metrics["contradicted_pairs"] == 1


def over(winner: int, loser: int, hour: int, **changes: object) -> dict:
    return row(image_a=f"{winner}.png", image_b=f"{loser}.png", time=f"2026-01-01T{hour:02}:00:00Z", **changes)


def test_a_circle_loses_its_oldest_vote_and_others_keep_theirs(tmp_path: Path) -> None:
    rows = [
        over(0, 1, 12),
        over(1, 2, 9),
        over(2, 0, 10),
        over(2, 3, 8),  # outside the circle, though older
        over(1, 2, 1, annotator="bo"),
        over(2, 0, 2, annotator="cy"),
        over(0, 1, 3, annotator="di"),  # a circle of three people is no contradiction
    ]
    found = mined(write_jsonl(tmp_path / "votes", rows))
    assert reasons(found) == [("preference_cycle", 2)]
    assert all(str(line) in found.quarantined[0].detail for line in (1, 2, 3))


def test_one_slip_among_many_votes_is_the_one_that_goes(tmp_path: Path) -> None:
    """0 over 1 over ... over 4, and the last vote, the newest, says 4 over 0: it alone is at odds with the rest."""
    order = [(a, b) for a in range(5) for b in range(a + 1, 5) if (a, b) != (0, 4)]
    rows = [over(a, b, hour) for hour, (a, b) in enumerate(order)] + [over(4, 0, 23)]
    found = mined(write_jsonl(tmp_path / "votes", rows))
    assert reasons(found) == [("preference_cycle", len(rows))]


def test_the_fewest_votes_go_as_trying_every_order_finds() -> None:
    """Independent of the dynamic programme: of all orders of five pictures the one with the fewest votes against it."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        edges = [(str(a), str(b)) if rng.random() < 0.5 else (str(b), str(a)) for a in range(5) for b in range(a)]
        edges = [edges[i] for i in rng.permutation(len(edges))]
        against = [
            [i for i, (won, lost) in enumerate(edges) if order.index(won) > order.index(lost)]
            for order in permutations("01234")
        ]
        fewest = min(map(len, against))
        # Among as few, the newest that goes is as old as can be, then the second newest, and so on.
        best = min((one for one in against if len(one) == fewest), key=lambda one: one[::-1])
        assert [i for i, _ in smallest_feedback(edges)] == best


@settings(max_examples=30, deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, EXACT + 3), st.integers(0, EXACT + 3)).filter(lambda e: e[0] < e[1])), st.data()
)
def test_what_stays_has_no_circle_and_what_goes_closed_one(pairs: set[tuple[int, int]], data: st.DataObject) -> None:
    edges = [(str(a), str(b)) if data.draw(st.booleans()) else (str(b), str(a)) for a, b in sorted(pairs)]
    removed = smallest_feedback(edges)
    kept = [i for i in range(len(edges)) if i not in {index for index, _ in removed}]
    assert all(path(edges, kept, edges[i][1], edges[i][0]) is None for i in kept)
    for index, circle in removed:
        assert circle[0] == index
        assert all(edges[a][1] == edges[b][0] for a, b in zip(circle, [*circle[1:], circle[0]], strict=True))


@pytest.mark.parametrize("pictures", [EXACT, EXACT + 2])
def test_of_a_long_circle_the_oldest_vote_goes_whichever_way_it_is_found(pictures: int) -> None:
    circle = [(str(i), str((i + 1) % pictures)) for i in range(pictures)]
    for turn in (0, 4):
        assert [index for index, _ in smallest_feedback(circle[turn:] + circle[:turn])] == [0]


def test_a_table_that_cannot_train_a_reward_stops(tmp_path: Path) -> None:
    one = write_jsonl(tmp_path / "one", [row()])
    assert mined(one).metrics == {"annotators": 1, "single_annotator": 1, "ties": 0, "contradicted_pairs": 0}
    with pytest.raises(InputError, match="ada only, 2 annotators required"):
        mined(one, least_annotators=2)
    with pytest.raises(InputError, match="'appeal' are ties"):
        mined(write_jsonl(tmp_path / "ties", [row(choice="tie"), row(choice="a", kind="structure")]))
    with pytest.raises(InputError, match=r"1 x bad_time, 1 x unknown_choice; first: line 1"):
        mined(write_jsonl(tmp_path / "none", [row(choice="?"), row(time="?")]))
    with pytest.raises(InputError, match="the table is empty"):
        mined(write_jsonl(tmp_path / "empty", []))


def test_one_person_is_one_name_however_it_is_typed(tmp_path: Path) -> None:
    rows = [row(annotator="\u0160\xe1rka"), row(annotator=" S\u030ca\u0301rka ", image_a="2.png"), row(annotator=7)]
    found = mined(write_jsonl(tmp_path / "votes", rows))
    assert set(found.truth["annotators"]) == {"\u0160\xe1rka", "7"}
    assert found.truth["annotators"]["7"] == {"votes": 1, "ties": 0, "shown": 1, "chose_first": 1}
