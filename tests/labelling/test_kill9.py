"""No acknowledged vote is lost, and none counts twice, however often the server is killed under load."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tiny_vote import Server, wait_for, write_candidates


class Voter:
    """Votes, skips and takes back at random, and remembers what the server acknowledged."""

    def __init__(self, server: Server, name: str, stop: threading.Event) -> None:
        self.server, self.annotator, self.stop = server, name, stop
        self.random = random.Random(name)
        self.kept: dict[frozenset[str], tuple[str, str]] = {}  # both pictures -> the left one, what was chosen
        self.acknowledged = 0

    def run(self) -> None:
        while not self.stop.is_set() and self._once():
            pass

    def _once(self) -> bool:
        offered = self.server.next(self.annotator)
        if offered["state"] != "pair":
            return False
        left, right = self.server.pictures(offered["offer"])
        choice = self.random.choice(["left", "right", "tie", "skip"])
        for _ in range(self.random.choice([1, 1, 2])):  # a retry after an answer that did not arrive
            assert self.server.vote(offered["offer"], choice)[0] == 200
        self.acknowledged += 1
        if self.random.random() < 0.1:
            assert self.server.undo(offered["offer"])[0] == 200
        elif choice != "skip":
            self.kept[frozenset((left, right))] = (left, {"left": left, "right": right, "tie": "tie"}[choice])
        return True


def acknowledged(voters: list[Voter]) -> int:
    return sum(voter.acknowledged for voter in voters)


def seen(row: dict[str, str]) -> tuple[str, str]:
    """What the annotator of an exported vote saw on the left, and chose."""
    pictures = {"a": row["image_a"], "b": row["image_b"], "tie": "tie"}
    return pictures[row["first"]], pictures[row["choice"]]


@pytest.mark.parametrize("kills", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_every_acknowledged_vote_is_exported_once_after_kills_under_load(tmp_path: Path, kills: int) -> None:
    candidates = write_candidates(tmp_path / "candidates", [f"prompt {i}" for i in range(80)])
    moments = random.Random(7)
    stop = threading.Event()
    with Server(candidates, tmp_path / "out", "--votes", "9") as server, ThreadPoolExecutor(6) as pool:
        voters = [Voter(server, f"voter {i}", stop) for i in range(6)]
        running = [pool.submit(voter.run) for voter in voters]
        try:
            for _ in range(kills):
                more = acknowledged(voters) + moments.randrange(5, 25)
                wait_for(lambda more=more: acknowledged(voters) >= more, "votes", 60)
                time.sleep(moments.uniform(0, 0.03))
                server.kill()
                server.start()
        finally:
            stop.set()
        for one in running:
            one.result()
        rows = server.export()
    found = [(row["annotator"], frozenset((row["image_a"], row["image_b"])), seen(row)) for row in rows]
    expected = [(voter.annotator, pair, choice) for voter in voters for pair, choice in voter.kept.items()]
    assert len(found) == len(set(found))
    assert set(found) == set(expected)
