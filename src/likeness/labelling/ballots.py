"""The rules of a vote: who is asked what next, what counts, what may be taken back."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from likeness.core.errors import LikenessError
from likeness.core.seeds import derive_seed
from likeness.labelling.questions import Question
from likeness.labelling.record import Decision, Letter, Offer, Record

Choice = Literal["left", "right", "tie", "skip"]
NAME_LENGTH = 64


class UnknownOfferError(LikenessError):
    """No offer has that id."""


class OfferConflictError(LikenessError):
    """The offer is no longer, or not yet, in the state that the request is about."""


def clean_name(name: str) -> str:
    """An annotator's name as it is stored; raises ValueError for an empty, overlong or unprintable one."""
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= NAME_LENGTH or not name.isprintable():
        raise ValueError(f"a name has 1 to {NAME_LENGTH} printable characters")
    return name


@dataclass
class _Person:
    asked: np.ndarray  # (Q,) int: how often each question was offered, whatever came of it
    open: list[Offer] = field(default_factory=list)
    decided: list[Offer] = field(default_factory=list)


class Ballots:
    """The state of a vote in memory, mirrored in its record. Not thread-safe: one thread owns it.

    ``votes``: how many each question should get. ``hold``: seconds for which an open offer reserves its question, so
    that people at work together get different ones and one who left blocks nobody.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        record: Record,
        *,
        votes: int,
        seed: int,
        hold: float = 600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.questions, self.record, self.votes, self.seed = questions, record, votes, seed
        self._hold, self._clock = hold, clock
        self.load()

    def load(self) -> None:
        """Take the state from the record: at the start, and after a commit that failed."""
        self.record.rollback()
        self._count = np.zeros(len(self.questions), dtype=int)
        self._offers: dict[str, Offer] = {}
        self._people: dict[str, _Person] = {}
        for offer in self.record.offers():
            self._know(offer)
            self._count[offer.question] += offer.counts()
        standing = [offer for offer in self._offers.values() if offer.choice is not None and not offer.withdrawn]
        for offer in sorted(standing, key=lambda offer: offer.turn or 0):
            self._people[offer.annotator].decided.append(offer)
        self._turn = max((offer.turn or 0 for offer in self._offers.values()), default=0)

    def _know(self, offer: Offer) -> None:
        self._offers[offer.id] = offer
        person = self._person(offer.annotator)
        person.asked[offer.question] += 1
        if offer.open():
            person.open.append(offer)

    def _person(self, annotator: str) -> _Person:
        if annotator not in self._people:
            self._people[annotator] = _Person(np.zeros(len(self.questions), dtype=int))
        return self._people[annotator]

    def find(self, offer_id: str) -> Offer:
        """The offer of that id.

        Raises:
            UnknownOfferError: there is none.
        """
        if offer_id not in self._offers:
            raise UnknownOfferError("no offer has this id", remedy="ask for the next pair")
        return self._offers[offer_id]

    def next_offer(self, annotator: str) -> Offer | None:
        """The annotator's open offer, else a new one of a question with the fewest votes; None: none is free."""
        person, now = self._person(annotator), self._clock()
        if person.open:
            person.open[-1].since = now
            return person.open[-1]
        expected = self._count + self._held(now)
        free = (person.asked == 0) & (expected < self.votes)
        if not free.any():
            return None
        return self._make(annotator, int(np.argmin(np.where(free, expected, self.votes))), now)

    def _held(self, now: float) -> np.ndarray:
        held = np.zeros(len(self.questions), dtype=int)
        for person in self._people.values():
            for offer in person.open:
                held[offer.question] += now - offer.since < self._hold
        return held

    def _make(self, annotator: str, question: int, now: float) -> Offer:
        attempt = int(self._person(annotator).asked[question])
        first: Letter = "a" if derive_seed(self.seed, "side", question, annotator) % 2 else "b"
        offer_id = f"{derive_seed(self.seed, 'offer', question, attempt, annotator):016x}"
        offer = Offer(offer_id, annotator, question, first, now)
        self._know(offer)
        self.record.save(offer)
        return offer

    def decide(self, offer_id: str, choice: Choice) -> Offer:
        """Count a vote, or a skip; the same once more changes nothing.

        Raises:
            UnknownOfferError: there is no such offer.
            OfferConflictError: it was withdrawn, or decided otherwise.
        """
        offer = self.find(offer_id)
        decision = _decision(offer, choice)
        if offer.withdrawn:
            raise OfferConflictError("this vote was taken back", remedy="vote on the pair that is offered now")
        if offer.choice is not None:
            if offer.choice != decision:
                raise OfferConflictError("this pair was decided otherwise", remedy="take the vote back, then vote anew")
            return offer
        self._turn += 1
        offer.choice, offer.turn = decision, self._turn
        offer.time = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        self._count[offer.question] += offer.counts()
        person = self._people[offer.annotator]
        person.open.remove(offer)
        person.decided.append(offer)
        self.record.save(offer)
        return offer

    def withdraw(self, offer_id: str) -> Offer:
        """Take back the annotator's last decision and offer its question again; once more changes nothing.

        The question may meanwhile have its votes from others: it then gets one more.

        Raises:
            UnknownOfferError: there is no such offer.
            OfferConflictError: it is undecided, or not the last.
        """
        offer = self.find(offer_id)
        if offer.withdrawn:
            return offer
        person = self._people[offer.annotator]
        if not person.decided or person.decided[-1] is not offer:
            raise OfferConflictError("only the last vote can be taken back", remedy="ask for the next pair")
        self._count[offer.question] -= offer.counts()
        offer.withdrawn = True
        person.decided.pop()
        self.record.save(offer)
        self._make(offer.annotator, offer.question, self._clock())
        return offer

    def last(self, annotator: str) -> str | None:
        """Id of the decision that the annotator may take back."""
        decided = self._person(annotator).decided
        return decided[-1].id if decided else None

    def progress(self, annotator: str) -> dict[str, int]:
        """Counts: the annotator's votes, skips and what is left for them; everyone's votes, and how many are wanted."""
        person = self._person(annotator)
        voted = sum(offer.counts() for offer in person.decided)
        return {
            "voted": voted,
            "skipped": len(person.decided) - voted,
            "left": int(((person.asked == 0) & (self._count < self.votes)).sum()) + len(person.open),
            "votes": int(np.minimum(self._count, self.votes).sum()),
            "wanted": self.votes * len(self.questions),
        }

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """The votes that stand, in the order in which they were cast, as the export writes them."""
        standing = sorted((o for o in self._offers.values() if o.counts()), key=lambda offer: offer.turn or 0)
        rows = []
        for offer in standing:
            asked = self.questions[offer.question]
            rows.append({
                "prompt": asked.prompt,
                "image_a": asked.image_a,
                "image_b": asked.image_b,
                "choice": offer.choice,
                "annotator": offer.annotator,
                "first": offer.first,
                "time": offer.time,
                "group": asked.group,
                "kind": kind,
            })  # fmt: skip
        return rows


def shown(offer: Offer, side: Literal["left", "right"]) -> Letter:
    """The picture on that side."""
    other: Letter = "b" if offer.first == "a" else "a"
    return offer.first if side == "left" else other


def _decision(offer: Offer, choice: Choice) -> Decision:
    return choice if choice == "tie" or choice == "skip" else shown(offer, choice)
