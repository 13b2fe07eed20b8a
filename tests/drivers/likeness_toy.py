"""A plug-in with a small torch-free pipeline over real files; tests install it through its entry points."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import Field

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.pipeline import Node, Pipeline
from likeness.core.seeds import derive_seed
from likeness.core.step import Metrics, StepSpec


class GatherConfig(Config):
    seed: int = 7
    keep: float = Field(default=0.5, gt=0, le=1, description="Share of the photographs to keep.")


class MeasureConfig(Config):
    channel: str = Field(default="red", pattern="red|green|blue")
    scale: int = 1


class PageConfig(Config):
    title: str = "Toy: “quoted” & $HOME"


def gather(config: GatherConfig, photos: Path, images: Path) -> Metrics:
    """Keep a seeded share of the photographs."""
    files = sorted(photos.glob("*.png"))
    order = np.random.default_rng(derive_seed(config.seed, "gather")).permutation(len(files))
    kept = sorted(order[: max(1, round(config.keep * len(files)))])
    for index in kept:
        (images / files[index].name).write_bytes(files[index].read_bytes())
    return {"kept": len(kept), "share": len(kept) / len(files), "note": "text"}


def measure(config: MeasureConfig, images: Path, earlier: Path | None, table: Path) -> Metrics:
    """Mean of one colour channel of each image."""
    channel = ("red", "green", "blue").index(config.channel)
    files = sorted(images.glob("*.png"))
    means = [config.scale * float(np.asarray(Image.open(file))[..., channel].mean()) for file in files]
    columns = {"name": [file.name for file in files], "mean": means}
    if earlier is not None:
        columns["earlier"] = pq.read_table(earlier / "table.parquet")["mean"].to_pylist()
    pq.write_table(pa.table(columns), table / "table.parquet")
    return {"mean": float(np.mean(means))}


def page(config: PageConfig, table: Path, site: Path) -> Metrics:
    """A page with the table."""
    rows = pq.read_table(table / "table.parquet").to_pylist()
    cells = "".join(f"<tr><td>{html.escape(str(row))}</td></tr>" for row in rows)
    site.write_text(f"<h1>{html.escape(config.title)}</h1><table>{cells}</table>", "utf-8")
    return {"rows": len(rows)}


GATHER = StepSpec(
    name="gather",
    version="1",
    category="data",
    config=GatherConfig,
    run=gather,
    inputs={"photos": ArtifactKind.PHOTOS},
    outputs={"images": ArtifactKind.SHARDS},
)
MEASURE = StepSpec(
    name="measure",
    version="3",
    category="evaluation",
    config=MeasureConfig,
    run=measure,
    inputs={"images": ArtifactKind.SHARDS, "earlier": ArtifactKind.TABLE},
    outputs={"table": ArtifactKind.TABLE},
    optional=frozenset({"earlier"}),
)
PAGE = StepSpec(
    name="page",
    version="1",
    category="evaluation",
    config=PageConfig,
    run=page,
    inputs={"table": ArtifactKind.TABLE},
    outputs={"site": ArtifactKind.HTML},
)


def toy() -> Pipeline:
    """One step used twice with other configs, an optional input once unbound, an HTML output, a source."""
    return Pipeline(
        name="toy",
        summary="Measure photographs.",
        sources={"photos": ArtifactKind.PHOTOS},
        nodes=(
            Node("gather", GATHER, {"photos": "sources.photos"}),
            Node("measure_red", MEASURE, {"images": "gather.images"}),
            Node("measure_blue", MEASURE, {"images": "gather.images", "earlier": "measure_red.table"}),
            Node("page", PAGE, {"table": "measure_blue.table"}),
        ),
    )
