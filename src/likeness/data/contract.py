"""The data contract of kept pictures, checked by great_expectations, with Data Docs that work offline."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.core.errors import DataContractError
from likeness.data.filters import FaceLimits
from likeness.data.offline_docs import make_offline

if TYPE_CHECKING:
    from great_expectations import Checkpoint, ExpectationSuite
    from great_expectations.checkpoint import CheckpointResult
    from great_expectations.data_context import EphemeralDataContext

COLUMNS = ("id", "file_name", "person", "width", "height", "licence", "source")
MEASURES = ("face_count", "face_px", "det_score", "yaw", "pitch", "roll", "blur")
_NAME = "kept_pictures"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # great_expectations names folders by run time; ours depend on content only
_SHOWN = 5


def check_contract(rows: Sequence[Mapping[str, Any]], limits: FaceLimits, docs: Path) -> int:
    """Check ``rows`` (without pixels) and build the Data Docs in ``docs``. Returns the number of expectations.

    Raises:
        DataContractError: naming each broken expectation and the first rows that break it.
    """
    # Read when great_expectations is imported; a pipeline step has no business phoning home.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    import pandas as pd
    from great_expectations.core.run_identifier import RunIdentifier

    context = gx.get_context(mode="ephemeral")
    checkpoint = _checkpoint(context, _suite(limits, with_faces=bool(rows) and limits.min_faces > 0), docs)
    frame = pd.DataFrame(list(rows), columns=[*COLUMNS, *MEASURES])
    result = checkpoint.run(batch_parameters={"dataframe": frame}, run_id=RunIdentifier(_NAME, _EPOCH))
    context.build_data_docs(site_names=["site"])
    make_offline(docs)
    failures = list(_failures(result))
    if failures:
        raise DataContractError(
            "the kept pictures break their contract:\n  " + "\n  ".join(failures),
            remedy="correct those pictures or their metadata, or loosen the limits under filter_faces in params.yaml",
        )
    return sum(len(run.results) for run in result.run_results.values())


def _suite(limits: FaceLimits, *, with_faces: bool) -> ExpectationSuite:
    """Schema, keys, completeness and ranges."""
    import great_expectations as gx
    from great_expectations import expectations as gxe

    bounds: dict[str, tuple[float | None, float | None]] = {
        "width": (1, None),
        "height": (1, None),
        "face_count": (limits.min_faces, limits.max_faces),
        "face_px": (limits.min_face_px, None),
        "det_score": (limits.min_det_score or 0, 1),
        "yaw": _symmetric(limits.max_yaw),
        "pitch": _symmetric(limits.max_pitch),
        "roll": _symmetric(limits.max_roll),
        "blur": (limits.min_blur, None),
    }
    complete = ["id", "file_name", "width", "height", "licence", "source", "face_count"]
    complete += [name for name in MEASURES if with_faces and name not in complete]
    expectations: list[Any] = [
        gxe.ExpectTableRowCountToBeBetween(min_value=1),
        gxe.ExpectTableColumnsToMatchSet(column_set=[*COLUMNS, *MEASURES], exact_match=True),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectColumnValuesToBeUnique(column="file_name"),
        gxe.ExpectColumnValuesToMatchRegex(column="id", regex="^[0-9a-f]{16}$"),
    ]
    expectations += [gxe.ExpectColumnValuesToNotBeNull(column=name) for name in complete]
    expectations += [
        gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)
        for name, (low, high) in bounds.items()
        if low is not None or high is not None
    ]
    return gx.ExpectationSuite(_NAME, expectations=expectations)


def _symmetric(limit: float | None) -> tuple[float | None, float | None]:
    return (None, None) if limit is None else (-limit, limit)


def _checkpoint(context: EphemeralDataContext, suite: ExpectationSuite, docs: Path) -> Checkpoint:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    site = {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": store,
        "show_how_to_buttons": False,
    }
    context.add_data_docs_site("site", site)
    asset = context.data_sources.add_pandas("curation").add_dataframe_asset(_NAME)
    batch = asset.add_batch_definition_whole_dataframe("all")
    definition = gx.ValidationDefinition(name=_NAME, data=batch, suite=context.suites.add(suite))
    checkpoint = gx.Checkpoint(
        name=_NAME,
        validation_definitions=[context.validation_definitions.add(definition)],
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["file_name"]},
    )
    return context.checkpoints.add(checkpoint)


def _failures(result: CheckpointResult) -> Iterator[str]:
    for run in result.run_results.values():
        for outcome in run.results:
            if outcome.success:
                continue
            config = outcome.expectation_config
            if outcome.exception_info and outcome.exception_info.get("raised_exception"):
                yield f"{config.type}: {outcome.exception_info['exception_message']}"
                continue
            column = config.kwargs.get("column", "table")
            rows = [str(row["file_name"]) for row in outcome.result.get("unexpected_index_list", ())]
            more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
            seen = ", ".join(rows[:_SHOWN]) + more or f"observed {outcome.result.get('observed_value')}"
            yield f"{column}: {config.type.removeprefix('expect_')}: {seen}"
