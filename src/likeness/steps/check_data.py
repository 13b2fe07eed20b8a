"""Step ``check_data``: the data contract of every set of pictures, with Data Docs, before anything is drawn."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from likeness.core.artifact import ArtifactKind
from likeness.core.errors import DataContractError
from likeness.core.step import Metrics, StepSpec
from likeness.data.contract import Contract, Material, suites
from likeness.data.drift import profile, read_profiles, write_profiles


class CheckDataConfig(Contract):
    """The contract."""


def check_data(
    config: CheckDataConfig,
    images: Path,
    kept: Path,
    captioned: Path | None,
    train: Path | None,
    references: Path | None,
    evaluation: Path | None,
    previous: Path | None,
    data_docs: Path,
    profiles: Path,
) -> Metrics:
    """Check schema, keys, ranges, balance and drift of every set; what breaks stops the run, naming its rows.

    ``previous``: the ``profiles`` of an earlier version of the data, to measure drift against.

    Raises:
        DataContractError: naming each broken expectation and the first rows that break it.
    """
    from likeness.data.expectations import validate_suites

    bound = {"images": images, "kept": kept, "captioned": captioned, "train": train}
    bound |= {"references": references, "evaluation": evaluation}
    sets = {name: folder for name, folder in bound.items() if folder is not None}
    before = read_profiles(previous) if previous is not None else {}
    found = {name: profile(folder, before.get(name)) for name, folder in sets.items()}
    write_profiles(profiles, found)
    progress = tqdm(suites(Material(sets, found, before), config), "check data", unit="suite")
    checked, failures = validate_suites(progress, source="pictures", docs=data_docs)
    if failures:
        raise DataContractError(
            "the data break their contract:\n  " + "\n  ".join(f"{name}: {text}" for name, text in failures),
            remedy="correct those pictures or their metadata, or change the contract under check_data in the params",
        )
    return {"expectations": checked, "sets": len(sets)}


SPEC = StepSpec(
    name="check_data",
    version="1",
    category="data",
    config=CheckDataConfig,
    run=check_data,
    inputs={
        "images": ArtifactKind.SHARDS,
        "kept": ArtifactKind.SHARDS,
        "captioned": ArtifactKind.SHARDS,
        "train": ArtifactKind.SHARDS,
        "references": ArtifactKind.SHARDS,
        "evaluation": ArtifactKind.SHARDS,
        "previous": ArtifactKind.TABLE,
    },
    outputs={"data_docs": ArtifactKind.DOCS, "profiles": ArtifactKind.TABLE},
    optional=frozenset({"captioned", "train", "references", "evaluation", "previous"}),
)
