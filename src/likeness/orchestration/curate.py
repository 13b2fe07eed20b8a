"""Curation alone: a folder of pictures in, kept and quarantined faces with reasons and a report to look at out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import InputError
from likeness.core.step import Metrics, StepSpec, execute
from likeness.data.filters import bounds
from likeness.data.shards import read_rows, read_schema
from likeness.models.embedded.portraits import FACTORS
from likeness.steps.caption import SPEC as CAPTION
from likeness.steps.caption import CaptionConfig
from likeness.steps.check_data import SPEC as CHECK_DATA
from likeness.steps.check_data import CheckDataConfig
from likeness.steps.data_report import SPEC as DATA_REPORT
from likeness.steps.data_report import DataReportConfig
from likeness.steps.detect_faces import SPEC as DETECT_FACES
from likeness.steps.detect_faces import DetectFacesConfig
from likeness.steps.filter_faces import SPEC as FILTER_FACES
from likeness.steps.filter_faces import FilterFacesConfig
from likeness.steps.ingest import SPEC as INGEST
from likeness.steps.ingest import IngestConfig

DEFAULT_PACK = Path("build/faces/models/embedded")


class CurateConfig(Config):
    """The configs of the steps; their defaults suit photographs of one person each."""

    ingest: IngestConfig = Field(default_factory=IngestConfig)
    detect_faces: DetectFacesConfig = Field(default_factory=DetectFacesConfig)
    filter_faces: FilterFacesConfig = Field(default_factory=FilterFacesConfig)
    caption: CaptionConfig = Field(default_factory=CaptionConfig)
    data_report: DataReportConfig = Field(default_factory=DataReportConfig)
    check_data: CheckDataConfig = Field(default_factory=CheckDataConfig)


def curate(folder: Path, out: Path, pack: Path = DEFAULT_PACK, config: CurateConfig | None = None) -> str:
    """Run ingest, detect_faces, filter_faces, caption where the factors are known, the report and the data contract.

    Pictures that the filter will set aside are measured only until that is known, unless ``wanted`` says otherwise.
    Artefacts go to ``out``/STEP/PORT as in a pipeline. Returns a summary to print.

    Raises:
        InputError: the folder is missing or holds nothing usable, or ``out`` lies inside it.
        DataContractError: what was kept breaks its contract; the report is there to look at.
        PackError: the face pack is not there.
    """
    config = config or CurateConfig()
    _check(folder, out, pack)
    measures = config.detect_faces
    if not measures.wanted:
        measures = measures.model_copy(update={"wanted": bounds(config.filter_faces)})
    read = _run(INGEST, config.ingest, out, photos=folder)
    images = out / "ingest" / "images"
    _run(DETECT_FACES, measures, out, images=images, faces=pack)
    detections = out / "detect_faces" / "detections"
    judged = _run(FILTER_FACES, config.filter_faces, out, images=images, detections=detections)
    filtered = out / "filter_faces"
    sets = {"images": images, "kept": filtered / "kept"}
    if _describable(filtered / "kept"):
        _run(CAPTION, config.caption, out, kept=filtered / "kept")
        sets["captioned"] = out / "caption" / "captioned"
    seen = {"kept": filtered / "kept", "quarantine": filtered / "quarantine", "unread": out / "ingest" / "quarantine"}
    _run(DATA_REPORT, config.data_report, out, **seen)
    _run(CHECK_DATA, config.check_data, out, **sets)
    return _summary(out, read, judged)


def _check(folder: Path, out: Path, pack: Path) -> None:
    """Refuse before any work what would fail or do harm later."""
    from likeness.models.faces.pack import check_pack

    if not folder.is_dir():
        raise InputError(f"not a folder: {folder}", remedy="give the path of a folder of pictures")
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"the output {out} lies inside the pictures' folder {folder}", remedy="choose an output folder beside it"
        )
    check_pack(pack)


def _run(spec: StepSpec[Any], config: Config, out: Path, **inputs: Path) -> Metrics:
    root = out / spec.name
    outputs = {port: root / f"{port}{kind.suffix}" for port, kind in spec.outputs.items()}
    return execute(spec, config, inputs, outputs, root / "metrics.json", reuse=True)


def _describable(kept: Path) -> bool:
    """Whether every picture comes with every factor of the attribute template."""
    if not set(FACTORS) <= set(read_schema(kept).names):
        return False
    return all(None not in row.values() for row in read_rows(kept, list(FACTORS)))


def _summary(out: Path, read: Metrics, judged: Metrics) -> str:
    lines = [
        f"{read['files']} files: {read['quarantined']} not usable, {judged['kept']} kept, "
        f"{judged['quarantined']} quarantined",
        *(f"  {name.removeprefix('broke_')}: {count}" for name, count in judged.items() if name.startswith("broke_")),
        f"report: {out / 'data_report' / 'report.html'}",
        f"kept pictures: {out / 'filter_faces' / 'kept'}",
        f"data docs: {out / 'check_data' / 'data_docs' / 'index.html'}",
    ]
    return "\n".join(lines)
