"""What can happen to a registry: the events of its log. Nothing about a model changes but by one of these."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from likeness.core.config import Config

NAME = r"^[a-z0-9][a-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME)]
Number = Annotated[int, Field(ge=1)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Registered(Config):
    """A version came to be. ``manifest``: digest of its manifest; ``passed``: whether its gate let it through.

    ``channel`` and ``seen``: where it is to go live, and how many moves that pointer had made when its registration
    began. So a run killed before the move completes it, and the loser of a race does not win by trying again.
    """

    kind: Literal["registered"] = "registered"
    model: Name
    version: Number
    manifest: Digest
    candidate: str
    passed: bool
    channel: Name
    seen: int


class Promoted(Config):
    """A channel's pointer moved. ``reason``: why a person forced it, or why it was moved back."""

    kind: Literal["promoted"] = "promoted"
    model: Name
    channel: Name
    version: Number
    move: Number
    forced: bool = False
    rollback: bool = False
    reason: str = ""


class Blocked(Config):
    """A version is out of use for good."""

    kind: Literal["blocked"] = "blocked"
    model: Name
    version: Number
    reason: str = Field(min_length=1)


class Signed(Config):
    """A signature over a version's bundle. ``signature``: digest of the object that holds it."""

    kind: Literal["signed"] = "signed"
    model: Name
    version: Number
    signature: Digest


class Collecting(Config):
    """These objects are about to be deleted: whoever registers a version with one of them stores it again."""

    kind: Literal["collecting"] = "collecting"
    objects: tuple[Digest, ...]


class Collected(Config):
    """The deletion announced by entry ``announced`` is done."""

    kind: Literal["collected"] = "collected"
    announced: Number


Event = Annotated[
    Registered | Promoted | Blocked | Signed | Collecting | Collected,
    Field(discriminator="kind"),
]


class Entry(Config):
    """One entry of the log. ``before``: SHA-256 of the entry before it; ``id``: tells this write from any other.

    ``by``: the person or job that did it; ``at``: when, UTC; ``seal``: SHA-256 of all the rest.
    """

    number: Number
    before: str
    id: str
    at: str
    by: str = Field(min_length=1)
    event: Event
    seal: str
