"""Folders of votes on small pictures, and ballots that hypothesis thinks of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from likeness.data.shards import write_shards
from likeness.preferences.mining.votes import VotesConfig, mine
from likeness.preferences.sources import Material, Mined
from likeness.preferences.votes.ballot import Ballot
from tiny_pairs import picture

ROW = {"prompt": "a portrait", "image_a": "0.png", "image_b": "1.png", "choice": "a", "annotator": "ada", "first": "a"}


def row(**changes: Any) -> dict[str, Any]:
    return ROW | changes


def write_pictures(folder: Path, count: int = 5, size: int = 8) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(picture(number, size)["bytes"])
    return folder


def write_jsonl(folder: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """The folder that the voting page leaves: one object a line, and the pictures."""
    write_pictures(folder)
    (folder / "votes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), "utf-8")
    return folder


def mined(folder: Path, judge_share: float = 0.5, **settings: Any) -> Mined:
    """What the source makes of ``folder``; pictures 10 to 12 are candidates."""
    candidates = folder.with_name(folder.name + "-candidates")
    if not candidates.exists():
        rows = [{"image": picture(10 + i, 8), "prompt": "a portrait", "group": i} for i in range(3)]
        write_shards(candidates, rows)
    material = Material(candidates, candidates, candidates, seed=0, judge_share=judge_share, votes=folder)
    return mine(VotesConfig.model_validate(settings), material)


def reasons(found: Mined) -> list[tuple[str, int]]:
    """Reason and line of everything kept apart, by line."""
    return sorted(((one.reason, one.row["line"]) for one in found.quarantined), key=lambda pair: pair[1])


_letters = st.characters(codec="utf-8")
_texts = st.text(_letters, min_size=1, max_size=12).filter(str.strip)
_ratings = st.none() | st.floats(1, 5)


@st.composite
def _ballot(draw: st.DrawFn) -> Ballot:
    time = draw(st.none() | st.datetimes(timezones=st.just(UTC)))
    return Ballot.model_validate(
        {
            "prompt": draw(_texts),
            "image_a": draw(_texts),
            "image_b": draw(_texts),
            "choice": draw(st.sampled_from(["a", "b", "tie"])),
            "annotator": draw(_texts),
            "first": draw(st.sampled_from(["a", "b", None])),
            "time": time,
            "group": draw(_texts),
            "kind": draw(st.sampled_from(["appeal", "structure"])),
            "rating_a": draw(_ratings),
            "rating_b": draw(_ratings),
        }
    )


ballots = st.lists(_ballot(), max_size=6)
