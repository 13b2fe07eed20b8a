"""Which artefacts derive from a person's pictures: runs and what they read, and what the bytes themselves say.

Where rows name persons, the rows decide: leaving a person out of a data version ends the trail. Where they do not
(weights, pages, drawn pictures), whatever was made from the person's data derives from it, and so do rows made with it:
pictures of others that such a model has redrawn. What is no longer there to be looked at counts as holding the person,
unless something still there says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from likeness.core.artifact import ArtifactKind
from likeness.registration.erasure.evidence import Holding

_ROWS = {ArtifactKind.PHOTOS, ArtifactKind.SHARDS, ArtifactKind.TABLE}


class Version(NamedTuple):
    """One output of one run: the run's key and the port."""

    key: str
    port: str


@dataclass(frozen=True)
class Cause:
    """Why an artefact derives from the person. ``sure`` is False where the data is gone and it can only be feared."""

    text: str
    sure: bool = True


class Lineage:
    """Runs by key, from every record that was found, and what was seen of their outputs."""

    def __init__(self) -> None:
        self.nodes: dict[str, Mapping[str, Any]] = {}
        self._seen: dict[Version, Holding] = {}
        self._consumers: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
        self._causes: dict[Version, Cause | None] = {}
        self._contents: dict[Version, Cause | None] = {}

    def add(self, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in the runs of one record."""
        for key, node in nodes.items():
            known = self.nodes.get(key)
            if known is None:
                for origin in node["inputs"].values():
                    if origin["from"] is not None:
                        self._consumers.setdefault(origin["from"], []).append((key, origin))
            if known is None or not known["outputs"]:  # a run that was killed does not know its outputs
                self.nodes[key] = node
        self._forget_causes()

    def see(self, version: Version, holding: Holding) -> None:
        """Note what one copy of ``version`` holds; a copy that holds the person outweighs any other."""
        if self._seen.get(version) is not Holding.HOLDS:
            self._seen[version] = holding
        self._forget_causes()

    def cause(self, version: Version) -> Cause | None:
        """Why ``version`` derives from the person, or None."""
        if version not in self._causes:
            self._causes[version] = self._find(version)
        return self._causes[version]

    def run_cause(self, key: str) -> Cause | None:
        """Why the run ``key`` has read data of the person, or None."""
        return next(self._through(key, rows=True), None)

    def digests(self) -> tuple[set[str], set[str]]:
        """Content digests of all outputs that derive from the person, and of those that do not."""
        made, clean = set[str](), set[str]()
        for key, node in self.nodes.items():
            for port, digest in node["outputs"].items():
                (made if self.cause(Version(key, port)) else clean).add(digest)
        return made, clean

    def origin_cause(self, key: str, origin: Mapping[str, Any], port: str) -> Cause | None:
        """The same of one input of the run ``key``."""
        causes = self._inputs(key, port, origin, rows=True)
        return max((cause for cause in causes if cause), key=lambda cause: cause.sure, default=None)

    def _forget_causes(self) -> None:
        self._causes.clear()
        self._contents.clear()

    def _find(self, version: Version) -> Cause | None:
        holding = self._seen.get(version)
        if holding is Holding.HOLDS:
            return Cause("its rows or files show the person")
        if holding is Holding.EMPTY:
            return None
        if holding is Holding.FREE:
            return self.content_cause(version)
        if holding is None and self._shows_below(version):
            return Cause("it is gone, and what was made from it shows the person")
        return next(self._through(version.key, rows=True), None)

    def content_cause(self, version: Version) -> Cause | None:
        """Why the content of rows derives from the person, whomever they name."""
        if self._seen.get(version) is Holding.EMPTY:
            return None
        if version not in self._contents:
            self._contents[version] = next(self._through(version.key, rows=False), None)
        return self._contents[version]

    def _through(self, key: str, *, rows: bool) -> Iterator[Cause]:
        """Causes by way of a run's inputs, sure ones first; that rows name the person is one only with ``rows``."""
        node = self.nodes.get(key)
        found: list[tuple[str, Cause]] = []
        for port, origin in sorted(node["inputs"].items()) if node else ():
            found += [(port, cause) for cause in self._inputs(key, port, origin, rows=rows) if cause is not None]
        for port, cause in sorted(found, key=lambda item: not item[1].sure):
            yield Cause(f"made from '{port}' of the person" if cause.sure else cause.text, cause.sure)

    def _inputs(self, key: str, port: str, origin: Mapping[str, Any], *, rows: bool) -> Iterator[Cause | None]:
        """Causes of what one input may have been."""
        if origin["from"] not in self.nodes:
            yield self._source(key, port, origin) if rows else None
            return
        for version in self._versions(origin):
            holding = self._seen.get(version)
            by_row = origin.get("kind") in _ROWS if holding is None else holding is not Holding.OPAQUE
            yield self.content_cause(version) if by_row and not rows else self.cause(version)

    def _versions(self, origin: Mapping[str, Any]) -> list[Version]:
        """The outputs that an input may have been: those of its digest, or any of a folder changed since."""
        outputs = self.nodes[origin["from"]]["outputs"]
        same = [port for port, digest in outputs.items() if digest == origin["digest"]]
        return [Version(origin["from"], port) for port in same or outputs]

    def _source(self, key: str, port: str, origin: Mapping[str, Any]) -> Cause | None:
        """Photographs from outside, judged by what the run that read them wrote."""
        if origin.get("kind", port) != ArtifactKind.PHOTOS:
            return None
        seen = {self._seen.get(Version(key, out)) for out in self.nodes[key]["outputs"]}
        if Holding.HOLDS in seen:
            return Cause("the photographs show the person")
        if Holding.FREE in seen:
            return None
        if any(self._shows_below(Version(key, out)) for out in self.nodes[key]["outputs"]):
            return Cause("it is gone, and what was made from it shows the person")
        return Cause("the pictures it came from are no longer here: it cannot be told", sure=False)

    def _shows_below(self, version: Version) -> bool:
        """Whether rows that were made from ``version``, which is gone, show the person."""
        for key, origin in self._consumers.get(version.key, ()):
            if origin.get("kind") not in _ROWS or version not in self._versions(origin):
                continue
            for port in self.nodes[key]["outputs"]:
                below = Version(key, port)
                holding = self._seen.get(below)
                if holding is Holding.HOLDS or (holding is None and self._shows_below(below)):
                    return True
        return False
