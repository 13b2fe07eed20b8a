"""What each licence allows. The expectations were written from the licences' texts, a line each, not from our table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evaluation.planted import GOOD, rows
from likeness.core.io import digest_path, read_json, write_json
from likeness.core.step import execute
from likeness.data.shards import write_shards
from likeness.evaluation.scores import SUMMARY, write_scores
from likeness.registration.card import CARD
from likeness.registration.decision import read_decision
from likeness.registration.licences import Part, Use, Verdict, decide, licence_of, rule, sentence, verdict_of
from likeness.registration.parts import mark
from likeness.registration.register import register
from likeness.registration.registry import Registry
from likeness.steps.gate import SPEC, GateConfig
from registration.decided import model

A, C, R = Verdict.ALLOWED, Verdict.CONDITIONAL, Verdict.REFUSED
# label: (granted by its holder: commercial, research), (found on a copy: commercial, research)
BY_HAND: dict[str, tuple[Verdict, Verdict, Verdict, Verdict]] = {
    # Nothing is asked for; but a label on a copy may be anybody's claim.
    "CC0-1.0": (A, A, R, C),
    "public domain": (A, A, R, C),
    "LicenseRef-avataaars-free-for-personal-and-commercial-use": (A, A, R, C),
    "LicenseRef-own": (A, A, R, C),
    # Notices.
    "MIT": (C, C, R, C),
    "BSD-3-Clause": (C, C, R, C),
    "apache-2.0": (C, C, R, C),
    # Copyleft forbids no use.
    "GPL-3.0-or-later": (C, C, R, C),
    "AGPL-3.0": (C, C, R, C),
    # Creative Commons: BY and SA are duties, NC bars commerce, ND bars sharing what was adapted, such as weights.
    "CC-BY-4.0": (C, C, R, C),
    "cc by 2.0": (C, C, R, C),
    "CC-BY-SA-3.0": (C, C, R, C),
    "CC-BY-ND-4.0": (R, C, R, C),
    "CC-BY-NC-4.0": (R, C, R, C),
    "CC BY-NC-SA 4.0": (R, C, R, C),
    "CC-BY-NC-ND-2.0": (R, C, R, C),
    # Model licences: the RAIL family allows commerce under use restrictions.
    "openrail": (C, C, R, C),
    "bigscience-openrail-m": (C, C, R, C),
    "creativeml-openrail-m": (C, C, R, C),
    "openrail++": (C, C, R, C),
    "SDXL OpenRAIL++": (C, C, R, C),
    "stabilityai-ai-community": (C, C, R, C),
    "stabilityai-nc-research-community": (R, C, R, C),
    "flux-1-dev-non-commercial-license": (R, C, R, C),
    "insightface-non-commercial": (R, C, R, C),
    "insightface-commercial": (C, C, R, C),
    # A contract is as good as its scope; without one on record, all rights are reserved.
    "LicenseRef-contract-commercial": (C, C, R, C),
    "LicenseRef-contract-research": (R, C, R, C),
    "proprietary": (R, R, R, R),
    "all rights reserved": (R, R, R, R),
    # Unknown: what is not clearly allowed is not sold.
    "unknown": (R, C, R, C),
    "other": (R, C, R, C),
    "MIT with usage restrictions": (R, C, R, C),
    "a licence of my own": (R, C, R, C),
}
_CASES = [
    (label, granted, use, expected[2 * (not granted) + (use == "research")])
    for label, expected in BY_HAND.items()
    for granted in (True, False)
    for use in ("commercial", "research")
]


@pytest.mark.parametrize(("label", "granted", "use", "expected"), _CASES)
def test_each_label_is_ruled_on_as_its_text_says(label: str, granted: bool, use: Use, expected: Verdict) -> None:
    ruling = rule(Part("base_model", label, granted), use)
    assert ruling.verdict is expected
    assert ruling.reason
    if not granted and use == "commercial" and label not in ("proprietary", "all rights reserved"):
        assert ruling.verdict is R  # provenance unknown is a state of its own, whatever the label


# pictures, face pack, base model, each granted; use; may it be registered?
_TOGETHER = [
    ("CC0-1.0", "MIT", "apache-2.0", "commercial", True),
    ("CC-BY-4.0", "MIT", "creativeml-openrail-m", "commercial", True),
    ("CC-BY-SA-4.0", "LicenseRef-own", "openrail++", "commercial", True),
    ("LicenseRef-own", "insightface-commercial", "stabilityai-ai-community", "commercial", True),
    ("LicenseRef-own", "insightface-non-commercial", "creativeml-openrail-m", "commercial", False),
    ("CC0-1.0", "insightface-non-commercial", "apache-2.0", "commercial", False),
    ("CC-BY-NC-4.0", "MIT", "apache-2.0", "commercial", False),
    ("CC-BY-ND-4.0", "MIT", "apache-2.0", "commercial", False),
    ("CC0-1.0", "MIT", "flux-1-dev-non-commercial-license", "commercial", False),
    ("CC0-1.0", "MIT", "stabilityai-nc-research-community", "commercial", False),
    ("unknown", "MIT", "apache-2.0", "commercial", False),
    ("CC0-1.0", "MIT", "proprietary", "commercial", False),
    ("CC-BY-NC-4.0", "insightface-non-commercial", "flux-1-dev-non-commercial-license", "research", True),
    ("unknown", "insightface-non-commercial", "creativeml-openrail-m", "research", True),
    ("CC-BY-ND-4.0", "MIT", "apache-2.0", "research", True),
    ("CC0-1.0", "MIT", "proprietary", "research", False),
]


@pytest.mark.parametrize(("pictures", "pack", "base", "use", "may"), _TOGETHER)
def test_the_strictest_part_decides(pictures: str, pack: str, base: str, use: Use, may: bool) -> None:
    labels = {"pictures": pictures, "faces": pack, "base_model": base}
    rulings = decide([Part(name, label, True) for name, label in labels.items()], use)
    assert (verdict_of(rulings) is not R) == may
    said = sentence(rulings, use)
    assert said.endswith("holds" if may else "FAILS")
    for ruling in rulings:
        assert (str(ruling.part) in said) == (ruling.verdict is R)


def test_one_spelling_is_as_good_as_another() -> None:
    same = {
        "cc-by-nc": ["CC-BY-NC-4.0", "cc by-nc 3.0", "CC BY-NC 4.0 International", "Attribution-BY-NC", "cc_by_nc_2.5"],
        "cc0": ["CC0", "cc0-1.0", "CC0 1.0 Universal", "CC-Zero"],
        "apache": ["Apache-2.0", "apache 2.0", "Apache License 2.0", "ASL 2.0"],
        "mit": ["MIT", "MIT License", "Expat", "the MIT license"],
        "openrail++-m": ["openrail++", "CreativeML OpenRAIL++-M", "SDXL OpenRAIL++", "sdxl openrail++-m"],
        "flux-1-dev-non-commercial": ["FLUX.1-dev", "flux-1-dev-non-commercial-license", "FLUX-1-dev non-commercial"],
        "unknown": ["", "none", "NOASSERTION", "MIT-ish", "CC-BY-XX-4.0", "CC-BY-SA-ND", "cc-by-nc-sa-and-more"],
    }
    for licence, labels in same.items():
        assert {label: licence_of(label) for label in labels} == dict.fromkeys(labels, licence)
    assert licence_of(None) == "unknown"


def test_a_model_of_unknown_parts_is_not_sold() -> None:
    assert verdict_of(decide([], "commercial")) is R


def _gated(root: Path, lora: Path, inputs: dict[str, Path], **config: Any) -> Path:
    result = root / "evaluation"
    result.mkdir(parents=True)
    write_scores(result, rows(GOOD, prompts=24))
    write_json(result / SUMMARY, {"candidate_digest": digest_path(lora)})
    bound = {"evaluation_result": result, "lora": lora, **inputs}
    execute(SPEC, GateConfig(resamples=200, **config), bound, {"decision": root / "decision"})
    return root / "decision"


def _parts(root: Path) -> dict[str, Path]:
    picture = {"person": "ada", "source": "her camera", "licence": "CC-BY-4.0"}
    write_shards(root / "train", [picture, {**picture, "person": "bob", "source": "unknown", "licence": "MIT"}])
    write_shards(root / "references", [picture])
    base, pack = root / "base", root / "buffalo_l"
    base.mkdir()
    pack.mkdir()
    (base / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\n# A base\n", "utf-8")
    return {"train": root / "train", "references": root / "references", "base_model": base, "faces": pack}


def test_the_gate_names_the_part_that_may_not_be_sold_and_the_card_carries_every_licence(tmp_path: Path) -> None:
    lora, parts = model(tmp_path / "lora", "a"), _parts(tmp_path)
    sold = read_decision(_gated(tmp_path / "sold", lora, parts, use="commercial"))
    assert not sold.passed
    (failure,) = sold.failures
    assert "faces buffalo_l (insightface-non-commercial): for non-commercial research only" in failure
    assert "base_model (creativeml-openrail-m): who granted" in failure
    assert "1 pictures (MIT): who granted 'MIT' is not known" in failure
    assert "2 pictures" not in failure  # CC-BY from her camera

    studied = _gated(tmp_path / "studied", lora, parts)
    assert read_decision(studied).passed
    assert read_decision(studied).record["people"] == sorted([mark("ada"), mark("bob")])
    registry = Registry.open(tmp_path / "registry")
    register(registry, "m", lora, studied)
    registry.export(registry.state().version("m", 1), tmp_path / "out")
    card = (tmp_path / "out" / CARD).read_text("utf-8")
    for line in (
        "- pictures (2): CC-BY-4.0 (by the pictures' source); name the authors",
        "- pictures (1): MIT (label known, provenance unknown)",
        "- base_model: creativeml-openrail-m (label known, provenance unknown)",
        "- faces buffalo_l: insightface-non-commercial (by insightface); for non-commercial research only",
    ):
        assert line in card
    assert "bob" not in card


def test_what_is_declared_replaces_a_label_found_on_a_copy(tmp_path: Path) -> None:
    lora, parts = model(tmp_path / "lora", "a"), _parts(tmp_path)
    write_shards(tmp_path / "train", [{"person": "ada", "source": "her camera", "licence": "CC-BY-4.0"}])
    licences = {
        "base_model": {"licence": "creativeml-openrail-m", "by": "downloaded from its holder's page"},
        "faces": {"licence": "LicenseRef-contract-commercial", "by": "contract 7"},
    }
    decision = _gated(tmp_path / "sold", lora, parts, use="commercial", licences=licences)
    assert read_decision(decision).passed
    ruled = {
        part["name"]: (part["label"], part["verdict"]) for part in read_json(decision / "decision.json")["licences"]
    }
    assert ruled["faces"] == ("LicenseRef-contract-commercial", "conditional")


def test_a_licence_file_that_insightface_cannot_verify_is_no_licence(tmp_path: Path) -> None:
    lora, parts = model(tmp_path / "lora", "a"), _parts(tmp_path)
    (parts["faces"] / "MODEL.LICENSE").write_text('{"grant": "commercial"}', "utf-8")
    decision = read_decision(_gated(tmp_path / "sold", lora, {"faces": parts["faces"]}, use="commercial"))
    assert "faces buffalo_l (no licence stated)" in decision.failures[0]


def test_a_commercial_gate_without_any_part_fails(tmp_path: Path) -> None:
    decision = read_decision(_gated(tmp_path / "g", model(tmp_path / "lora", "a"), {}, use="commercial"))
    assert decision.failures == ["licences for commercial use: no part of the model states any: FAILS"]
