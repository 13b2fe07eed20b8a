"""Configs refuse mistakes, and say which."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.core.config import Config, load_yaml, parse_config, section
from likeness.core.errors import ConfigError, InputError


class Inner(Config):
    rate: float = 0.1


class Outer(Config):
    steps: int = 4
    inner: Inner = Inner()


def test_a_misspelt_key_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"p\.yaml: unknown key 'stesp': did you mean 'steps'\?"):
        parse_config(Outer, {"stesp": 3}, "p.yaml")


def test_a_misspelt_nested_key_is_suggested_from_the_nested_model() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'inner\.rat': did you mean 'rate'"):
        parse_config(Outer, {"inner": {"rat": 3}}, "p.yaml")


def test_a_wrong_value_is_shown() -> None:
    with pytest.raises(ConfigError, match="'steps' = 'many'"):
        parse_config(Outer, {"steps": "many"}, "p.yaml")


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(Outer, {"stesp": 1, "inner": {"rate": "x"}}, "p.yaml")
    assert "stesp" in caught.value.problem
    assert "inner.rate" in caught.value.problem


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
def test_what_was_dumped_parses_to_the_same(steps: int, rate: float) -> None:
    config = Outer(steps=steps, inner=Inner(rate=rate))
    assert parse_config(Outer, config.model_dump(mode="json"), "here") == config


@given(st.text(min_size=1).filter(lambda key: key not in Outer.model_fields))
def test_no_unknown_key_passes(key: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(Outer, {key: 1}, "here")


def test_an_absent_section_is_suggested() -> None:
    with pytest.raises(ConfigError) as caught:
        section({"ingest": {}, "gate": {}}, "ingets", "p.yaml")
    assert caught.value.remedy == "did you mean 'ingest'?"


def test_an_empty_section_is_all_defaults() -> None:
    assert section({"gate": None}, "gate", "p.yaml") == {}


def test_a_section_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be a mapping"):
        section({"gate": [1]}, "gate", "p.yaml")


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (None, InputError, "absent"),
        ("a: [", ConfigError, "not valid YAML"),
        ("- 1", ConfigError, "mapping of sections"),
    ],
)
def test_unreadable_params_are_named(tmp_path: Path, text: str | None, error: type[Exception], said: str) -> None:
    path = tmp_path / "absent.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=said):
        load_yaml(path)
