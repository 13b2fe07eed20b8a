"""Rows against suites of great_expectations, with Data Docs that work offline and depend on the content only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likeness.data.offline_docs import make_offline

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations import Checkpoint, ExpectationSuite
    from great_expectations.checkpoint import CheckpointResult
    from great_expectations.data_context import EphemeralDataContext

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # great_expectations names folders by run time; ours depend on content only
_SHOWN = 5


@dataclass(frozen=True)
class Suite:
    """``expectations`` of the rows of ``frame``, both made when their turn comes, once great_expectations is imported.

    ``index``: the column that names a row in a failure.
    """

    name: str
    index: str
    frame: Callable[[], pd.DataFrame]
    expectations: Callable[[], Sequence[Any]]


def validate(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    expectations: Callable[[], Sequence[Any]],
    *,
    name: str,
    source: str,
    index: str,
    docs: Path,
) -> tuple[int, list[str]]:
    """Check ``rows`` as one suite: see :func:`validate_suites`."""

    def frame() -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(list(rows), columns=list(columns))

    checked, failures = validate_suites([Suite(name, index, frame, expectations)], source=source, docs=docs)
    return checked, [text for _, text in failures]


def validate_suites(suites: Iterable[Suite], *, source: str, docs: Path) -> tuple[int, list[tuple[str, str]]]:
    """Check each suite and build the Data Docs of all in ``docs``.

    ``source``: of the data, as the docs call it. Returns the number of expectations, and of those that are broken the
    suite and what is wrong in words. One suite's rows are in memory at a time.
    """
    # Read when great_expectations is imported; a pipeline step has no business phoning home.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.core.run_identifier import RunIdentifier

    context = gx.get_context(mode="ephemeral")
    _quiet_site(context, docs)
    data = context.data_sources.add_pandas(source)
    checked, failures = 0, []
    for suite in suites:
        asset = data.add_dataframe_asset(suite.name)
        batch = asset.add_batch_definition_whole_dataframe("all")
        expected = gx.ExpectationSuite(suite.name, expectations=list(suite.expectations()))
        checkpoint = _checkpoint(context, expected, batch, suite.index)
        result = checkpoint.run(batch_parameters={"dataframe": suite.frame()}, run_id=RunIdentifier(suite.name, _EPOCH))
        checked += sum(len(run.results) for run in result.run_results.values())
        failures += [(suite.name, text) for text in _failures(result, suite.index)]
    context.build_data_docs(site_names=["site"])
    make_offline(docs)
    return checked, failures


def _quiet_site(context: EphemeralDataContext, docs: Path) -> None:
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


def _checkpoint(context: EphemeralDataContext, suite: ExpectationSuite, batch: Any, index: str) -> Checkpoint:
    import great_expectations as gx

    definition = gx.ValidationDefinition(name=suite.name, data=batch, suite=context.suites.add(suite))
    checkpoint = gx.Checkpoint(
        name=suite.name,
        validation_definitions=[context.validation_definitions.add(definition)],
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [index]},
    )
    return context.checkpoints.add(checkpoint)


def _failures(result: CheckpointResult, index: str) -> Iterator[str]:
    for run in result.run_results.values():
        for outcome in run.results:
            if outcome.success:
                continue
            config = outcome.expectation_config
            if outcome.exception_info and outcome.exception_info.get("raised_exception"):
                yield f"{config.type}: {outcome.exception_info['exception_message']}"
                continue
            column = config.kwargs.get("column") or " and ".join(config.kwargs.get("column_list", ())) or "table"
            rows = [str(row[index]) for row in outcome.result.get("unexpected_index_list", ())]
            more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
            seen = ", ".join(rows[:_SHOWN]) + more or f"observed {outcome.result.get('observed_value')}"
            yield f"{column}: {config.type.removeprefix('expect_')}: {seen}"
