"""Step ``detect_faces``: an insightface pack measures the faces of every picture."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.step import Metrics, Resources, Sharded, StepSpec
from likeness.data.detections import DETECTIONS, SCHEMA
from likeness.data.scorers.base import OpenScorers, complete_settings
from likeness.data.shard_pool import Shard, each_shard
from likeness.data.shards import iter_shard, write_table
from likeness.data.where import check_columns, parse_where

if TYPE_CHECKING:
    from likeness.data.meter import Meter

_MODULES = frozenset({"detection", "recognition", "landmark_3d_68"})  # what scorers read comes on top
_PARTS = "_parts"
_COLUMNS = ("id", "image", "width", "height")


class DetectFacesConfig(Config):
    """``det_size``: side the detector sees, a multiple of 32. ``blur_size``: side at which sharpness is measured.

    ``first_size``: the detector looks at this side first, and at ``det_size`` unless that shows a large and sure face;
    None, or no less than ``det_size``, for one look. ``wanted``: an expression over this table's columns, such as
    ``face_count == 1 and face_px >= 64``; pictures that break it are measured no further, to save the time.
    ``scorers``: name on the plug-point ``scorer`` -> its own settings; each adds its columns to the table.
    ``workers``: processes, each with ``threads``; a shard goes to one of them.
    """

    det_size: int = Field(default=640, ge=32, multiple_of=32)
    first_size: int | None = Field(default=320, ge=32, multiple_of=32)
    det_threshold: float = Field(default=0.5, gt=0, lt=1)
    blur_size: int = Field(default=112, ge=16)
    wanted: str = ""
    threads: int = Field(default=1, ge=1)
    workers: int = Field(default=2, ge=1)
    scorers: Mapping[str, Mapping[str, Any]] = Field(default={"exposure": {}, "quality": {}}, validate_default=True)

    @field_validator("scorers")
    @classmethod
    def _complete(cls, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """With each scorer's defaults filled in, so that the run's key holds every value."""
        return complete_settings(given)

    @field_validator("wanted")
    @classmethod
    def _known(cls, value: str) -> str:
        check_columns(parse_where(value), [name for name in SCHEMA.names if name not in ("id", "embedding")])
        return value


def detect_faces(
    config: DetectFacesConfig,
    images: Path,
    faces: Path,
    encoder: Path | None,
    reward: Path | None,
    nsfw: Path | None,
    detections: Path,
) -> Metrics:
    """Count faces and measure the largest: size, score, pose, sharpness, key points, embedding, what scorers add.

    ``encoder`` and ``reward`` are models of the scorer ``aesthetic``, ``nsfw`` that of the scorer of that name.
    """
    bound = {"encoder": encoder, "reward": reward, "nsfw": nsfw}
    models = {port: path for port, path in bound.items() if path is not None}
    parts = detections / _PARTS
    files = list(each_shard(images, parts, _measurer, (config, faces, models), config.workers, "detect faces"))
    counts: list[int] = []
    with pq.ParquetWriter(detections / DETECTIONS, pq.read_schema(files[0]), compression="zstd", version="2.6") as out:
        for file in files:
            table = pq.read_table(file)
            counts += table["face_count"].to_pylist()
            out.write_table(table)
    shutil.rmtree(parts)
    return {
        "pictures": len(counts),
        "faces": sum(counts),
        "pictures_without_face": counts.count(0),
        "pictures_with_several": sum(count > 1 for count in counts),
    }


@contextmanager
def _measurer(config: DetectFacesConfig, faces: Path, models: Mapping[str, Path]) -> Iterator[Shard]:
    """What measures one shard into one file, with the models loaded once for all that a process gets."""
    from likeness.data.meter import Meter, Sizes
    from likeness.models.faces.pack import load_pack

    scorers = OpenScorers(config.scorers, models)
    modules = sorted(_MODULES | scorers.modules)
    app = load_pack(faces, config.det_size, config.threads, det_thresh=config.det_threshold, modules=modules)
    scorers.check(app)
    sizes = Sizes(config.det_size, config.first_size, config.blur_size)
    meter = Meter(app, sizes, parse_where(config.wanted), scorers)
    schema = pa.schema([*SCHEMA, *scorers.columns])
    with warnings.catch_warnings():
        # insightface aligns with a scikit-image method that is deprecated, and says so for every face.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"insightface\.")
        yield lambda *task: _measure(meter, schema, *task)


def _measure(meter: Meter, schema: pa.Schema, shard: Path, part: Path, tick: Callable[[], object]) -> None:
    rows = []
    for picture in iter_shard(shard, _COLUMNS):
        rows.append(meter.row(picture))
        tick()
    write_table(part, pa.Table.from_pylist(rows, schema=schema))


SPEC = StepSpec(
    name="detect_faces",
    version="4",
    category="data",
    config=DetectFacesConfig,
    run=detect_faces,
    inputs={
        "images": ArtifactKind.SHARDS,
        "faces": ArtifactKind.FACE_PACK,
        "encoder": ArtifactKind.MODEL,
        "reward": ArtifactKind.MODEL,
        "nsfw": ArtifactKind.MODEL,
    },
    optional=frozenset({"encoder", "reward", "nsfw"}),
    outputs={"detections": ArtifactKind.TABLE},
    resources=Resources(cpu=2.0),
    resumable=True,
    sharded=Sharded(input="images", table=DETECTIONS, parts=_PARTS),
)
