"""The rules: nobody waits for another, every pair gets its votes, and what is on the disk is what is in memory."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from likeness.core.errors import InputError, StorageError
from likeness.labelling.ballots import Ballots, OfferConflictError, UnknownOfferError, clean_name, shown
from likeness.labelling.desk import Desk
from likeness.labelling.questions import Question
from likeness.labelling.record import FILE, Record

QUESTIONS = [Question(f"prompt {i}", f"{i // 3}", f"images/{i}a.png", f"images/{i}b.png") for i in range(12)]
Opened = Callable[..., Ballots]


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Ballots on one record, which each call closes and opens again, as a restart does."""
    records: list[Record] = []

    def reopen(votes: int = 2, clock: Clock | None = None) -> Ballots:
        for record in records:
            record.close()
        records.append(Record(tmp_path, "digest"))
        return Ballots(QUESTIONS, records[-1], votes=votes, seed=5, clock=clock or Clock())

    yield reopen
    for record in records:
        record.close()


def test_those_at_work_together_get_different_pairs_and_the_fewest_votes_come_first(opened: Opened) -> None:
    ballots = opened(votes=9)
    first = [ballots.next_offer(f"person {i}") for i in range(12)]
    assert sorted(offer.question for offer in first if offer) == list(range(12))
    for offer in first[:11]:
        assert offer
        ballots.decide(offer.id, "left")
    # The twelfth still looks: everyone else is now offered pairs with one vote, and hers only as one that will have it.
    assert first[11]
    ballots.decide(first[11].id, "skip")
    late = ballots.next_offer("latecomer")
    assert late
    assert late.question == first[11].question


def test_an_offer_left_lying_goes_to_someone_else_after_a_while(opened: Opened) -> None:
    clock = Clock()
    ballots = opened(votes=1, clock=clock)
    for _ in range(11):
        ballots.decide(ballots.next_offer("anna").id, "tie")
    lying = ballots.next_offer("anna")
    assert ballots.next_offer("ben") is None
    assert ballots.progress("ben")["left"] == 1
    clock.now += 601
    assert ballots.next_offer("ben").question == lying.question
    ballots.decide(lying.id, "left")  # late, and still a vote
    assert ballots.progress("ben")["votes"] == 12


@pytest.mark.parametrize("seed", range(4))
def test_any_course_of_events_gives_each_pair_its_votes_and_is_on_the_disk(opened: Opened, seed: int) -> None:
    draw, people = random.Random(seed), ["anna", "ben", "caro", "dora"]
    ballots = opened(votes=2)
    for _ in range(400):
        name = draw.choice(people)
        offer, last = ballots.next_offer(name), ballots.last(name)
        # A skip taken back is offered again even when others have meanwhile given the pair its votes.
        if last and ballots.find(last).counts() and draw.random() < 0.2:
            ballots.withdraw(last)
        elif offer:
            ballots.decide(offer.id, draw.choice(["left", "right", "tie", "left", "right", "skip"]))
        if draw.random() < 0.05:
            ballots.record.commit()
            before = [ballots.rows("appeal"), *((ballots.progress(p), ballots.last(p)) for p in people)]
            ballots = opened(votes=2)
            assert before == [ballots.rows("appeal"), *((ballots.progress(p), ballots.last(p)) for p in people)]
    rows = ballots.rows("appeal")
    each = Counter(row["image_a"] for row in rows)
    assert max(each.values()) == 2
    assert max(Counter((row["image_a"], row["annotator"]) for row in rows).values()) == 1
    skipped = sum(ballots.progress(name)["skipped"] for name in people)
    assert sum(each.values()) >= 2 * len(QUESTIONS) - skipped


def test_sides_are_drawn_for_each_annotator_and_pair_and_stay(opened: Opened) -> None:
    ballots = opened(votes=99)
    sides: dict[str, list[str]] = {}
    for name in [f"person {i}" for i in range(20)]:
        for _ in QUESTIONS:
            offer = ballots.next_offer(name)
            ballots.decide(offer.id, "left")
            if offer.question % 3 == 0:
                ballots.withdraw(offer.id)
                again = ballots.next_offer(name)
                assert (again.question, again.first) == (offer.question, offer.first)
                assert again.id != offer.id
                ballots.decide(again.id, "left")
            sides.setdefault(name, []).append(offer.first)
    drawn = [side for mine in sides.values() for side in mine]
    assert 0.4 < drawn.count("a") / len(drawn) < 0.6  # 240 draws: four standard deviations are .13
    assert len({tuple(mine) for mine in sides.values()}) > 15


def test_what_was_chosen_is_the_picture_on_that_side(opened: Opened) -> None:
    ballots = opened()
    offer = ballots.next_offer("anna")
    ballots.decide(offer.id, "right")
    (row,) = ballots.rows("structure")
    assert {row["first"], row["choice"]} == {"a", "b"}
    assert row["choice"] == shown(offer, "right") != row["first"]
    assert row["time"] == "1970-01-12T13:46:40.000+00:00"
    assert row["kind"] == "structure"


def test_a_request_sent_twice_changes_nothing_and_a_late_one_revives_nothing(opened: Opened) -> None:
    ballots = opened()
    offer = ballots.next_offer("anna")
    with pytest.raises(OfferConflictError):
        ballots.withdraw(offer.id)
    for _ in range(2):
        ballots.decide(offer.id, "left")
        assert ballots.progress("anna")["voted"] == 1
    with pytest.raises(OfferConflictError):
        ballots.decide(offer.id, "right")
    for _ in range(2):
        ballots.withdraw(offer.id)
        assert ballots.progress("anna")["voted"] == 0
    with pytest.raises(OfferConflictError):
        ballots.decide(offer.id, "left")
    again = ballots.next_offer("anna")
    ballots.decide(again.id, "tie")
    ballots.decide(ballots.next_offer("anna").id, "left")
    with pytest.raises(OfferConflictError):
        ballots.withdraw(again.id)  # not the last
    with pytest.raises(UnknownOfferError):
        ballots.decide("0123", "left")
    assert len(ballots.rows("appeal")) == 2


def test_a_full_disk_refuses_the_vote_and_forgets_it(opened: Opened, tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk. Whoever is told of a failure may vote again."""
    ballots = opened(votes=999)
    pages = ballots.record._connection.execute("PRAGMA page_count").fetchone()[0]
    ballots.record._connection.execute(f"PRAGMA max_page_count = {pages}")
    desk = Desk(ballots)
    try:
        while (failure := vote(desk, f"person {ballots.progress('')['votes']} {'x' * 40}")) is None:
            pass
        assert isinstance(failure, sqlite3.OperationalError)
        assert "full" in str(failure)
        stored = len(desk.ask(lambda b: b.rows("appeal")).result(5))
        assert stored > 3
        ballots.record._connection.execute("PRAGMA max_page_count = 100000")
        assert vote(desk, "zoe") is None
    finally:
        desk.close()
    assert len(opened(votes=999).rows("appeal")) == stored + 1


def vote(desk: Desk, name: str) -> BaseException | None:
    """Ask for a pair and vote on it; what went wrong, if anything did."""
    offered = desk.ask(lambda b: b.next_offer(name))
    if offered.exception(5):
        return offered.exception()
    return desk.ask(lambda b: b.decide(offered.result().id, "left")).exception(5)


def test_an_answer_comes_after_the_commit(opened: Opened, tmp_path: Path) -> None:
    """Whoever hears of a vote finds it in a copy of the files made at that moment; FULL: it is on the disk as well."""
    desk = Desk(opened())
    in_copy: list[list[dict[str, object]]] = []

    def look(_: object) -> None:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        for file in tmp_path.glob(f"{FILE}*"):
            shutil.copy(file, folder)
        record = Record(folder, "digest")
        in_copy.append(Ballots(QUESTIONS, record, votes=2, seed=5).rows("appeal"))
        record.close()

    try:
        for i in range(5):
            offer = desk.ask(lambda b: b.next_offer("anna")).result(5)
            vote = desk.ask(lambda b, offer=offer, i=i: b.decide(offer.id, ["left", "right", "tie"][i % 3]))
            vote.add_done_callback(look)
            vote.result(5)
    finally:
        desk.close()
    assert [len(rows) for rows in in_copy] == [1, 2, 3, 4, 5]
    settings = desk.ballots.record._connection
    assert settings.execute("PRAGMA synchronous").fetchone() == (2,)
    assert settings.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_many_votes_share_a_commit_and_each_is_answered_with_its_own(opened: Opened) -> None:
    desk = Desk(opened(votes=999))
    try:
        asks = [desk.ask(lambda b, i=i: b.next_offer(f"person {i}")) for i in range(200)]
        refused = desk.ask(lambda b: b.decide("none", "left"))
        assert [ask.result(5).annotator for ask in asks] == [f"person {i}" for i in range(200)]
        assert isinstance(refused.exception(5), UnknownOfferError)
    finally:
        desk.close()


def test_a_record_is_held_by_one_process_and_about_one_set_of_questions(opened: Opened, tmp_path: Path) -> None:
    ballots = opened()
    with pytest.raises(InputError, match="in use"):
        Record(tmp_path, "digest")
    ballots.record.close()
    with pytest.raises(InputError, match="other candidates"):
        Record(tmp_path, "another digest")
    (tmp_path / FILE).write_bytes(b"no database " * 100)
    with pytest.raises(StorageError, match="cannot be opened"):
        Record(tmp_path, "digest")


@pytest.mark.parametrize("name", ["", "   ", "x" * 65, "a\nb", "a\u2028b", "a\u202eb", "\ud800", "\x00"])
def test_names_that_no_person_has_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        clean_name(name)


def test_one_name_in_two_encodings_is_one_name() -> None:
    assert clean_name(" Zoe\u0308 ") == clean_name("Zo\u00eb")
    assert clean_name("<script>alert(1)</script>") == "<script>alert(1)</script>"
