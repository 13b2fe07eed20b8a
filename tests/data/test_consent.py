from __future__ import annotations

import multiprocessing as mp
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from likeness.cli import app
from likeness.data.consent import LEDGER, ConsentError, Grant, Row, Withdrawal, append, read_ledger, withdraw

JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def grant(name: str, person: str = "ada", **changes: object) -> Grant:
    values = {"id": name, "person": person, "scope": ("train", "evaluate"), "granted": "2026-01-01"} | changes
    return Grant.model_validate(values)


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    rows: list[Row] = [grant("a"), grant("b", "bob", expires="2027-01-01"), Withdrawal(id="a", withdrawn=JUNE)]
    for row in rows:
        appended = append(tmp_path, [row])
    ledger = read_ledger(tmp_path)
    assert (list(ledger.grants.values()), ledger.withdrawn) == (rows[:2], {"a": JUNE})
    assert ledger.head == appended.head
    assert ledger.of("bob") == [rows[1]]


@pytest.mark.parametrize(
    ("changes", "as_of", "scopes", "says"),
    [
        ({}, "2026-06-01", ("train", "evaluate"), None),
        ({}, "2026-01-01", ("train",), None),  # the first moment counts
        ({}, "2025-12-31T23:59:59", ("train",), "begins on 2026-01-01"),
        ({"expires": "2026-06-01"}, "2026-05-31T23:59:59", ("train",), None),
        ({"expires": "2026-06-01"}, "2026-06-01", ("train",), "expired on 2026-06-01"),  # the last one does not
        ({}, "2026-06-01", ("publish",), "covers train, evaluate, not publish"),
        ({"scope": ("train",)}, "2026-06-01", ("train", "evaluate"), "covers train, not evaluate"),
        (
            {"granted": "2026-06-01T01:00:00+02:00"},
            "2026-05-31T23:00:00",
            ("train",),
            None,
        ),  # zones are the same moment
    ],
)
def test_a_grant_holds_within_its_time_and_scope(tmp_path, changes, as_of, scopes, says) -> None:
    append(tmp_path, [grant("a", **changes)])
    moment = datetime.fromisoformat(as_of).replace(tzinfo=UTC)
    objection = read_ledger(tmp_path).objection("ada", None, scopes, moment)
    assert objection is None if says is None else says in str(objection)


def test_a_withdrawal_counts_at_once_and_for_every_grant_of_the_person(tmp_path: Path) -> None:
    append(tmp_path, [grant("a"), grant("a2"), grant("b", "bob")])
    later = datetime(2030, 1, 1, tzinfo=UTC)
    assert withdraw(tmp_path, "ada", later) == ["a", "a2"]
    assert withdraw(tmp_path, "ada", later) == []
    ledger = read_ledger(tmp_path)
    assert "withdrawn on 2030-01-01" in str(ledger.objection("ada", None, ("train",), JUNE))
    assert ledger.objection("bob", None, ("train",), JUNE) is None
    append(tmp_path, [grant("a3")])  # who comes back is welcome
    assert read_ledger(tmp_path).objection("ada", None, ("train",), JUNE) is None


def test_scopes_may_come_from_several_grants_but_a_named_record_stands_alone(tmp_path: Path) -> None:
    append(tmp_path, [grant("t", scope=("train",)), grant("e", scope=("evaluate",)), grant("b", "bob")])
    ledger = read_ledger(tmp_path)
    both = ("train", "evaluate")
    assert ledger.objection("ada", None, both, JUNE) is None
    assert "covers train, not evaluate" in str(ledger.objection("ada", "t", both, JUNE))
    assert "another person's" in str(ledger.objection("ada", "b", both, JUNE))
    assert ledger.objection(None, "b", both, JUNE) is None
    assert "not in the ledger" in str(ledger.objection("ada", "x", both, JUNE))
    assert "no consent of 'eve'" in str(ledger.objection("eve", None, both, JUNE))
    assert "nobody known" in str(ledger.objection(None, None, both, JUNE))


@given(st.integers(0, 10_000), st.sampled_from(["flip", "drop", "swap", "double"]))
def test_any_change_of_a_row_is_found(tmp_path_factory, where: int, how: str) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    append(folder, [grant("a"), grant("b", "bob"), Withdrawal(id="a", withdrawn=JUNE), grant("c")])
    file = folder / LEDGER
    lines = file.read_bytes().splitlines(keepends=True)
    number = where % 3
    if how == "flip":
        content = bytearray(file.read_bytes())
        position = where % (len(content) - 1)  # not the last newline: without it the line was never finished
        content[position] ^= 1
        file.write_bytes(bytes(content))
    elif how == "drop":
        file.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
    elif how == "swap":
        file.write_bytes(b"".join([*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]]))
    else:
        file.write_bytes(b"".join([*lines[: number + 1], lines[number], *lines[number + 1 :]]))
    with pytest.raises(ConsentError, match="ledger"):
        read_ledger(folder)


def test_a_line_cut_by_a_kill_never_counted_and_is_written_over(tmp_path: Path) -> None:
    append(tmp_path, [grant("a")])
    file = tmp_path / LEDGER
    whole = file.read_bytes()
    append(tmp_path, [grant("b", "bob")])
    second = file.read_bytes()
    for cut in range(len(whole), len(second)):
        file.write_bytes(second[:cut])
        assert list(read_ledger(tmp_path).grants) == ["a"]
    append(tmp_path, [grant("b", "bob")])
    assert file.read_bytes() == second


def test_rows_that_do_not_fit_are_refused_and_none_of_the_call_is_written(tmp_path: Path) -> None:
    append(tmp_path, [grant("a")])
    before = (tmp_path / LEDGER).read_bytes()
    wrong: list[list[Row]] = [
        [grant("b"), grant("a")],
        [grant("b"), Withdrawal(id="x", withdrawn=JUNE)],
        [Withdrawal(id="a", withdrawn=JUNE), Withdrawal(id="a", withdrawn=JUNE)],
    ]
    for rows in wrong:
        with pytest.raises(ConsentError, match="what to do"):
            append(tmp_path, rows)
        assert (tmp_path / LEDGER).read_bytes() == before
    with pytest.raises(ValidationError, match="expires before"):
        grant("c", expires="2025-01-01")


def test_a_missing_ledger_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(ConsentError) as caught:
        read_ledger(tmp_path)
    advice = re.search(r"`likeness (.+?)`", caught.value.remedy)
    assert advice
    assert CliRunner().invoke(app, advice[1].split()).exit_code == 0  # the advice can be taken as it stands
    assert read_ledger(tmp_path).of("PERSON")


def _append_one(arguments: tuple[Path, int]) -> None:
    folder, number = arguments
    append(folder, [grant(f"g{number}", f"p{number}")])


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    with mp.get_context("fork").Pool(4) as pool:
        pool.map(_append_one, [(tmp_path, number) for number in range(24)], chunksize=1)
    assert set(read_ledger(tmp_path).grants) == {f"g{number}" for number in range(24)}
