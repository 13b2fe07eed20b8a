"""The bench of the voting page: what it times are votes that the real server stored."""

from __future__ import annotations

from pathlib import Path

from voting import flush_ms, measure, serving

from likeness.labelling.serve import VoteConfig, export


def test_what_is_timed_is_stored(tmp_path: Path) -> None:
    with serving(tmp_path, prompts=2, size=8) as (port, process):
        found = measure(port, process, voters=3, looking=0, seconds=5)  # until each has voted on the twelve pairs
    assert [found[kind]["requests"] for kind in ("next pair", "picture", "vote")] == [36 + 3, 72, 36]
    assert found["vote"]["p50"] <= found["vote"]["p95"] <= found["vote"]["most"]
    assert export(tmp_path / "candidates", tmp_path / "out", VoteConfig(votes=1000)).startswith("36 votes")
    assert flush_ms(tmp_path, times=3)["p50"] > 0
