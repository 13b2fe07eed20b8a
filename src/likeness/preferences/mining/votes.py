"""Source ``votes``: what people chose, from a folder of votes and the pictures they name.

Every row of the table becomes a preference or an entry of ``quarantine.json`` with its reason; see
:mod:`likeness.preferences.votes`. A tie is a :class:`Preference` whose ``tie`` is set: fitting smooths it to one half.
Strength: the share of a question's votes with the same outcome, ties among the outcomes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from likeness.core.config import Config
from likeness.core.errors import ConfigError, InputError, did_you_mean
from likeness.preferences.pairs import Preference, fold_of
from likeness.preferences.sources import SOURCES, Material, Mined, Quarantined, Source
from likeness.preferences.votes.ballot import COLUMNS, SCALE, Fault, Scale
from likeness.preferences.votes.contract import VoteLimits, check_votes
from likeness.preferences.votes.formats import Ballots, Format, read_ballots
from likeness.preferences.votes.pictures import load_pictures
from likeness.preferences.votes.screen import Cast, Screened, screen
from likeness.preferences.votes.tables import aside


class VotesConfig(Config):
    """``format``: auto tells a table from Label Studio's and Argilla's exports by its look.

    ``columns``: our name of a column -> its name in the file, for those that differ. ``rating_scale``: lowest and
    highest rating. ``least_annotators``: with fewer people the table is refused. ``limits``: of the contract.
    """

    format: Format = "auto"
    columns: Mapping[str, str] = {}
    rating_scale: Scale = SCALE
    least_annotators: int = Field(default=1, ge=1)
    limits: VoteLimits = VoteLimits()

    @field_validator("columns")
    @classmethod
    def _ours(cls, columns: Mapping[str, str]) -> Mapping[str, str]:
        for name in columns:
            if name not in (*COLUMNS, "images", "ranking"):
                raise ConfigError(f"votes have no column '{name}'", remedy=did_you_mean(name, COLUMNS))
        return columns


def mine(config: VotesConfig, material: Material) -> Mined:
    """A preference of every vote that can be learnt from, in the order of the table.

    Raises:
        InputError: the table cannot be read, or cannot train a reward: no vote left, only ties, too few people.
    """
    folder = material.need("votes", "votes")
    read = read_ballots(folder, config.format, config.columns, config.rating_scale)
    casts, apart = _cast(read, folder, material.candidates)
    screened = screen(casts)
    apart = [*read.apart, *apart, *screened.apart]
    _refuse_untrainable(config, screened.kept, apart)
    preferences = _preferences(screened.kept, material)
    return Mined(preferences, _truth(screened), apart, _metrics(screened))


def check(config: VotesConfig, preferences: Sequence[Preference], docs: Path) -> int:
    """The contract of the votes' preferences, with its Data Docs in ``docs``."""
    return check_votes(preferences, config.limits, config.rating_scale, docs)


def _cast(read: Ballots, folder: Path, candidates: Path) -> tuple[list[Cast], list[Quarantined]]:
    """The votes whose pictures can be seen, and the others."""
    named = [name for _, ballot in read.votes for name in (ballot.image_a, ballot.image_b)]
    pictures = load_pictures(named, folder, candidates, read.inline)
    casts, apart = [], []
    for line, ballot in read.votes:
        a, b = pictures[ballot.image_a], pictures[ballot.image_b]
        faults = [side for side in (a, b) if isinstance(side, Fault)]
        if isinstance(a, Fault) or isinstance(b, Fault):
            values = ballot.model_dump(exclude_none=True)
            apart.append(aside(faults[0].reason, line, values, "; ".join(fault.detail for fault in faults)))
        else:
            casts.append(Cast(line, ballot, a, b))
    return casts, apart


def _refuse_untrainable(config: VotesConfig, kept: Sequence[Cast], apart: Sequence[Quarantined]) -> None:
    if not kept:
        reasons = Counter(one.reason for one in apart)
        why = ", ".join(f"{count} x {reason}" for reason, count in sorted(reasons.items())) or "the table is empty"
        first = next((f"; first: line {one.row.get('line')}, {one.detail}" for one in apart), "")
        raise InputError(
            f"no vote is left to learn from ({why}{first})", remedy="mend those rows, or collect more votes"
        )
    people = sorted({cast.ballot.annotator for cast in kept})
    if len(people) < config.least_annotators:
        raise InputError(
            f"the votes of {', '.join(people)} only, {config.least_annotators} annotators required",
            remedy="ask more people, or lower sources.votes.least_annotators",
        )
    for kind in sorted({cast.ballot.kind for cast in kept}):
        if all(cast.ballot.choice == "tie" for cast in kept if cast.ballot.kind == kind):
            raise InputError(
                f"all votes of kind '{kind}' are ties: nothing says what is better",
                remedy="collect votes on pictures that differ more, or take that kind out",
            )


def _preferences(kept: Sequence[Cast], material: Material) -> list[Preference]:
    votes = Counter(cast.task for cast in kept)
    agreeing = Counter((cast.task, cast.winner) for cast in kept)
    return [
        _preference(
            cast, agreeing[cast.task, cast.winner] / votes[cast.task] if votes[cast.task] > 1 else None, material
        )
        for cast in kept
    ]


def _preference(cast: Cast, strength: float | None, material: Material) -> Preference:
    ballot = cast.ballot
    sides = ("b", "a") if ballot.choice == "b" else ("a", "b")
    pictures = {"a": cast.a, "b": cast.b}
    ratings = {"a": ballot.rating_a, "b": ballot.rating_b}
    return Preference(
        prompt=ballot.prompt,
        chosen=pictures[sides[0]].image,
        rejected=pictures[sides[1]].image,
        kind=ballot.kind,
        fold=fold_of(material.seed, ballot.group, material.judge_share),
        group=f"prompt-{ballot.group}",
        annotator=ballot.annotator,
        strength=strength,
        swapped=None if ballot.first is None else ballot.first != sides[0],
        tie=ballot.choice == "tie",
        chosen_rating=ratings[sides[0]],
        rejected_rating=ratings[sides[1]],
        time=ballot.time,
    )


def _truth(screened: Screened) -> dict[str, Any]:
    """What is known of each person: their votes, the ties among them, and how many went to the picture shown first."""
    people: dict[str, Any] = {}
    for cast in screened.kept:
        known = people.setdefault(cast.ballot.annotator, {"votes": 0, "ties": 0, "shown": 0, "chose_first": 0})
        known["votes"] += 1
        known["ties"] += cast.ballot.choice == "tie"
        if cast.ballot.first is not None and cast.ballot.choice != "tie":
            known["shown"] += 1
            known["chose_first"] += cast.ballot.first == cast.ballot.choice
    return {"annotators": {name: people[name] for name in sorted(people)}}


def _metrics(screened: Screened) -> dict[str, float | int]:
    """``single_annotator`` is 1 where a reward would learn one person's taste: a warning, not an error."""
    people = {cast.ballot.annotator for cast in screened.kept}
    return {
        "annotators": len(people),
        "single_annotator": int(len(people) == 1),
        "ties": sum(cast.ballot.choice == "tie" for cast in screened.kept),
        "contradicted_pairs": screened.contradicted,
    }


SOURCES.add("votes", Source(VotesConfig, mine, check), __name__)
