"""Metrics of whole sets of pictures, by name, from features that the encoder has given already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from likeness.core.errors import InputError
from likeness.core.registry import Registry
from likeness.core.seeds import derive_seed
from likeness.evaluation.bias import evenness, shift
from likeness.evaluation.distances import SetEstimate, cmmd, frechet, kid, style, vendi
from likeness.evaluation.footprint import weighed
from likeness.evaluation.statistics import Array

SETS = "sets.parquet"
Source = Literal["pictures", "people", "model"]
BASE = "base"
_SCHEMA = pa.schema(
    [
        pa.field("metric", pa.string(), nullable=False),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("replicates", pa.list_(pa.float64()), nullable=False),
    ]
)


class Distance(Protocol):
    """Sets (N, E) and (M, E) to an estimate with its replicates."""

    def __call__(self, a: Array, b: Array, /, *, seed: int, replicates: int) -> SetEstimate: ...


@dataclass(frozen=True)
class SetMetric:
    """``score``: features (N, E) of a variant and (M, E) of what it is compared ``to`` -> an estimate >= ``low``.

    ``to``: the base model's pictures of equal prompts and seeds, photographs, or nothing. ``of``: features of
    the pictures; faces, NaN for none, in pictures whose prompts name no subject; or the footprint of the model itself.
    ``keeps``: told of the base model's pictures too, by the name ``content``.
    """

    score: Callable[..., SetEstimate]
    to: Literal["base", "photographs", "nothing"]
    summary: str
    unit: str
    direction: Literal["higher", "lower", "neither"]
    low: float = 0.0
    of: Source = "pictures"
    keeps: bool = False


SET_METRICS: Registry[SetMetric] = Registry("set_metric", builtin=("likeness.evaluation.sets",))


def _vendi(a: Array, b: Array, *, seed: int, replicates: int) -> SetEstimate:
    return vendi(a, seed=seed, replicates=replicates)


def _add(
    name: str,
    score: Callable[..., SetEstimate],
    to: Literal["base", "photographs", "nothing"],
    summary: str,
    unit: str,
    direction: Literal["higher", "lower", "neither"],
    **more: Any,
) -> None:
    SET_METRICS.add(name, SetMetric(score, to, summary, unit, direction, **more), __name__)


_DISTANCES: dict[str, tuple[Distance, str, str]] = {
    "frechet": (frechet, "Frechet distance (FID on the encoder's features)", "squared feature length"),
    "kid": (kid, "kernel distance of degree 3 (KID)", "squared MMD"),
    "cmmd": (cmmd, "Gaussian kernel distance (CMMD)", "1000 squared MMD"),
}
for _name, (_score, _what, _unit) in _DISTANCES.items():
    _add(f"{_name}_base", _score, "base", f"{_what} from the base model's pictures", _unit, "neither")
    _add(f"{_name}_photos", _score, "photographs", f"{_what} from photographs", _unit, "lower")
_STYLE = "prompt kept and photographs' style met (ArtFID's form)"
_add("style_photos", style, "photographs", _STYLE, "product", "lower", low=1.0, keeps=True)
_add("vendi", _vendi, "nothing", "how many different pictures the set is worth", "pictures", "higher", low=1.0)
_SHIFT = "shift of who is drawn when no subject is named, from the base model"
_add("bias_shift", shift, "base", _SHIFT, "bits", "lower", of="people")
_EVEN = "how evenly the base model's clusters of faces are drawn when no subject is named"
_add("bias_evenness", evenness, "nothing", _EVEN, "share", "higher", of="people")
_TFLOP = "what drawing one picture takes, its prompt encoded and its latents decoded"
_add("compute", weighed(0), "nothing", _TFLOP, "10^12 operations", "lower", of="model")
_MB = "what is loaded beside the base model"
_add("size", weighed(1), "nothing", _MB, "10^6 bytes", "lower", of="model")


def measure_sets(
    sources: Mapping[Source, Mapping[str, Array]],
    photographs: Array | None,
    names: Sequence[str],
    *,
    seed: int,
    replicates: int,
) -> dict[str, dict[str, SetEstimate]]:
    """Each metric of each variant; ``sources``: variant -> (N, E) of each, paired by row.

    A distance from the base model is not told of the base model; one from photographs, or of what is no source here,
    not at all.
    """
    out: dict[str, dict[str, SetEstimate]] = {}
    for name in names:
        metric = SET_METRICS.get(name)
        drawn = sources.get(metric.of)
        if drawn is None:
            continue
        other = {"base": drawn[BASE], "photographs": photographs, "nothing": drawn[BASE]}[metric.to]
        if other is None:
            continue
        more = {"content": drawn[BASE]} if metric.keeps else {}
        out[name] = {
            variant: metric.score(own, other, seed=derive_seed(seed, name), replicates=replicates, **more)
            for variant, own in drawn.items()
            if metric.to != "base" or variant != BASE
        }
    return out


def summarise_sets(sets: Mapping[str, Mapping[str, SetEstimate]], confidence: float) -> dict[str, Any]:
    """For ``summary.json``: each estimate with its interval, and what the metric is."""
    out: dict[str, Any] = {}
    for name, variants in sets.items():
        metric = SET_METRICS.get(name)
        about = {"summary": metric.summary, "unit": metric.unit, "direction": metric.direction, "low": metric.low}
        for variant, one in variants.items():
            interval = one.interval(confidence)
            bounds = {"ci_low": interval.low, "ci_high": interval.high, "n": one.n}
            out.setdefault(name, {})[variant] = {"value": one.value, **bounds, "about": about}
    return out


def write_sets(folder: Path, sets: Mapping[str, Mapping[str, SetEstimate]]) -> None:
    """Write ``sets.parquet``: equal estimates give equal bytes."""
    rows = [
        {"metric": name, "variant": variant, "n": one.n, "value": one.value, "replicates": one.replicates.tolist()}
        for name, variants in sets.items()
        for variant, one in variants.items()
    ]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    pq.write_table(table, folder / SETS, compression="zstd", version="2.6")


def read_sets(folder: Path) -> dict[str, dict[str, SetEstimate]]:
    """What ``write_sets`` wrote; nothing if the evaluation is older than that.

    Raises:
        InputError: the table is damaged.
    """
    import numpy as np

    file = folder / SETS
    if not file.is_file():
        return {}
    try:
        rows = pq.read_table(file, schema=_SCHEMA).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{file} is not usable: {error}", remedy="run the evaluate step again") from None
    out: dict[str, dict[str, SetEstimate]] = {}
    for row in rows:
        one = SetEstimate(row["value"], np.array(row["replicates"]), row["n"])
        out.setdefault(row["metric"], {})[row["variant"]] = one
    return out
