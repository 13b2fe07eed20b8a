"""What a licence allows: one table, and one decision over the parts a model was made of.

Labels are SPDX ids or the names that model hubs use. A label is not a grant: found on a copy, without knowing that the
holder put it there, it says what the terms would be and nothing about who may rely on them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

Use = Literal["commercial", "research"]


class Verdict(StrEnum):
    """``conditional``: allowed under the duty that is named."""

    ALLOWED = "allowed"
    CONDITIONAL = "conditional"
    REFUSED = "refused"


@dataclass(frozen=True)
class Terms:
    """One row of the table: what the licence says of each use, and the duty or the ban in words."""

    commercial: Verdict
    research: Verdict
    text: str


@dataclass(frozen=True)
class Part:
    """``label``: the licence as found or declared, None where nothing says. ``granted``: whether it is known that the
    holder granted it (``by`` says how). ``count``: pictures that it stands for, where it is about pictures.
    """

    name: str
    label: str | None
    granted: bool = False
    by: str = ""
    count: int | None = None

    def __str__(self) -> str:
        amount = f"{self.count} " if self.count is not None else ""
        return f"{amount}{self.name} ({self.label or 'no licence stated'})"


@dataclass(frozen=True)
class Ruling:
    """The verdict on one part, with its reason in words."""

    part: Part
    verdict: Verdict
    reason: str

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self.part), "verdict": str(self.verdict), "reason": self.reason}


_ALLOWED, _DUTY, _REFUSED = Verdict.ALLOWED, Verdict.CONDITIONAL, Verdict.REFUSED
_FREE = Terms(_ALLOWED, _ALLOWED, "free for any use")
_NOTICE = Terms(_DUTY, _DUTY, "keep the copyright notice and the licence")
_COPYLEFT = Terms(_DUTY, _DUTY, "what is derived stays under the same licence, source included")
_RAIL = Terms(_DUTY, _DUTY, "pass the use restrictions on to whoever receives the model")
_RESEARCH = Terms(_REFUSED, _DUTY, "for non-commercial research only")
_UNKNOWN = Terms(_REFUSED, _DUTY, "nothing known allows its use: do not publish what comes of it")

TERMS: dict[str, Terms] = {
    "cc0": _FREE,
    "public-domain": _FREE,
    "unlicense": _FREE,
    "0bsd": _FREE,
    "licenseref-avataaars-free-for-personal-and-commercial-use": _FREE,
    "licenseref-own": Terms(_ALLOWED, _ALLOWED, "ours"),
    "licenseref-contract-commercial": Terms(_DUTY, _DUTY, "within the contract"),
    "licenseref-contract-research": Terms(_REFUSED, _DUTY, "the contract covers research only"),
    "mit": _NOTICE,
    "isc": _NOTICE,
    "bsd-2-clause": _NOTICE,
    "bsd-3-clause": _NOTICE,
    "apache": _NOTICE,
    "gpl": _COPYLEFT,
    "lgpl": _COPYLEFT,
    "agpl": _COPYLEFT,
    "cc-by": Terms(_DUTY, _DUTY, "name the authors"),
    "cc-by-sa": Terms(_DUTY, _DUTY, "name the authors and share what is adapted under the same licence"),
    "cc-by-nd": Terms(_REFUSED, _DUTY, "no adaptation may be shared: keep what comes of it to yourselves"),
    "cc-by-nc": Terms(_REFUSED, _DUTY, "not for commercial use; name the authors"),
    "cc-by-nc-sa": Terms(_REFUSED, _DUTY, "not for commercial use; name the authors and share alike"),
    "cc-by-nc-nd": Terms(_REFUSED, _DUTY, "not for commercial use, and no adaptation may be shared"),
    "openrail-m": _RAIL,
    "creativeml-openrail-m": _RAIL,
    "openrail++-m": _RAIL,
    "stabilityai-community": Terms(_DUTY, _DUTY, "below 1 million US dollars of yearly revenue, and registered"),
    "stabilityai-non-commercial": _RESEARCH,
    "flux-1-dev-non-commercial": _RESEARCH,
    "insightface-non-commercial": _RESEARCH,
    "insightface-commercial": Terms(_DUTY, _DUTY, "within the signed licence of that model"),
    "proprietary": Terms(_REFUSED, _REFUSED, "all rights reserved: put the contract on record first"),
    "unknown": _UNKNOWN,
}

# Other names of the same terms, after folding; the first that matches the whole label counts.
_ALIASES: tuple[tuple[str, str], ...] = (
    (r"cc-?0(-universal)?|cc-zero", "cc0"),
    (r"pdm|publicdomain|cc-pdm|cc-pddc", "public-domain"),
    (r"(attribution|cc)-by(-.+)?|by(-.+)?", "cc"),
    (r"expat|the-mit", "mit"),
    (r"apache-license|apache2|asl", "apache"),
    (r"(l|a)?gpl(-?v?[23])?(-only|-or-later)?", "gpl"),
    (r"openrail|bigscience-openrail-m|bigcode-openrail-m|bigscience-bloom-rail", "openrail-m"),
    (r"(sdxl-|stabilityai-)?(creativeml-)?openrail\+\+(-m)?|sdxl-openrail", "openrail++-m"),
    (r"stabilityai-ai-community|stability-ai-community(-license)?|sd3-5-community", "stabilityai-community"),
    (
        r"stabilityai-(nc-research|non-commercial-research)(-community)?|sai-nc-community|sdxl-turbo",
        "stabilityai-non-commercial",
    ),
    (r"flux-?1?-dev(-non-commercial)?(-license)?", "flux-1-dev-non-commercial"),
    (r"insightface(-non-commercial-research)?", "insightface-non-commercial"),
    (r"all-rights-reserved|commercial|copyrighted", "proprietary"),
    (r"|none|other|noassertion|not-stated|custom|unlicensed", "unknown"),
)
_VERSION = re.compile(r"-v?\d+(-\d+)*(?=$|-universal$|-(only|or-later)$)")
_SUFFIX = re.compile(r"-(international|unported|license|licence|universal)$")


def licence_of(label: str | None) -> str:
    """The row of :data:`TERMS` that ``label`` means; ``unknown`` for what the table does not hold.

    Versions and spelling do not matter: ``CC BY-NC 4.0``, ``cc-by-nc-4.0`` and ``CC-BY-NC-3.0`` are one row.
    """
    folded = re.sub(r"[^a-z0-9+]+", "-", (label or "").lower()).strip("-")
    while folded not in TERMS:
        shorter = _SUFFIX.sub("", _VERSION.sub("", folded))
        if shorter == folded:
            break
        folded = shorter
    if folded in TERMS:
        return folded
    for pattern, name in _ALIASES:
        if re.fullmatch(pattern, folded):
            return _creative_commons(folded) if name == "cc" else name
    return "unknown"


def _creative_commons(folded: str) -> str:
    """``cc-by-sa-nc`` and other orders of the same letters."""
    letters = set(folded.split("-"))
    if not letters <= {"cc", "attribution", "by", "nc", "nd", "sa"} or {"nd", "sa"} <= letters:
        return "unknown"
    return "-".join(["cc", "by", *(letter for letter in ("nc", "nd", "sa") if letter in letters)])


def rule(part: Part, use: Use) -> Ruling:
    """Whether ``part`` allows ``use``. Anything that does not clearly allow commercial use refuses it."""
    terms = TERMS[licence_of(part.label)]
    verdict = terms.commercial if use == "commercial" else terms.research
    reason = terms.text
    if verdict is not Verdict.REFUSED and not part.granted:
        stated = "no licence is stated" if part.label is None else f"who granted '{part.label}' is not known"
        reason = f"{stated}: {'a label on a copy is no grant' if part.label else _UNKNOWN.text}"
        verdict = Verdict.REFUSED if use == "commercial" else Verdict.CONDITIONAL
    return Ruling(part, verdict, reason)


def decide(parts: Iterable[Part], use: Use) -> list[Ruling]:
    """A ruling on each part; the model may be used so if none is refused (and there is any part at all)."""
    return [rule(part, use) for part in parts]


def verdict_of(rulings: Sequence[Ruling]) -> Verdict:
    """The strictest verdict; a model of which no part is known is refused."""
    order = (Verdict.ALLOWED, Verdict.CONDITIONAL, Verdict.REFUSED)
    return max((ruling.verdict for ruling in rulings), key=order.index, default=Verdict.REFUSED)


def sentence(rulings: Sequence[Ruling], use: Use) -> str:
    """One sentence: what stands in the way of ``use``, or that nothing does."""
    refused = [f"{ruling.part}: {ruling.reason}" for ruling in rulings if ruling.verdict is Verdict.REFUSED]
    if not rulings:
        return f"licences for {use} use: no part of the model states any: FAILS"
    if refused:
        return f"licences for {use} use: {'; '.join(refused)}: FAILS"
    duties = sum(ruling.verdict is Verdict.CONDITIONAL for ruling in rulings)
    under = f", {duties} under conditions that the model card names" if duties else ""
    return f"licences for {use} use: {len(rulings)} parts allow it{under}: holds"
