"""A pipeline is checked when it is made; its order is stable."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likeness.core.artifact import ArtifactKind
from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.core.pipeline import Node, Pipeline
from likeness.core.step import Metrics, StepSpec

TABLE, MODEL, HTML = ArtifactKind.TABLE, ArtifactKind.MODEL, ArtifactKind.HTML


class Empty(Config):
    seed: int = 0


def join(config: Empty, left: Path, right: Path | None, table: Path, page: Path) -> Metrics:
    """Join two tables."""
    return {}


JOIN = StepSpec(
    "join",
    "1",
    "data",
    Empty,
    join,
    {"left": TABLE, "right": TABLE},
    {"table": TABLE, "page": HTML},
    optional=frozenset({"right"}),
)


def pipeline(*nodes: Node) -> Pipeline:
    return Pipeline("test", "A test.", {"table": TABLE, "model": MODEL}, nodes)


def chain(order: list[int]) -> Pipeline:
    """Nodes n0 <- n1 <- n2 …, declared in ``order``."""
    sources = {i: f"n{i - 1}.table" if i else "sources.table" for i in order}
    return pipeline(*(Node(f"n{i}", JOIN, {"left": sources[i]}) for i in order))


@given(st.permutations(range(6)))
def test_a_chain_is_sorted_whatever_the_declaration(order: list[int]) -> None:
    assert [node.name for node in chain(order).topological()] == [f"n{i}" for i in range(6)]


def test_independent_nodes_keep_their_order() -> None:
    nodes = [Node(name, JOIN, {"left": "sources.table"}) for name in "zax"]
    assert [node.name for node in pipeline(*nodes).topological()] == ["z", "a", "x"]


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        ({"left": "sources.table", "middle": "sources.table"}, "unknown ports {'middle'}"),
        ({"right": "sources.table"}, "unbound ports {'left'}"),
        ({"left": "sources.model"}, "wants table, gets model"),
        ({"left": "a.page"}, "wants table, gets html"),
        ({"left": "a.table"}, "cycle"),
    ],
)
def test_wrong_bindings_are_refused(bind: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pipeline(Node("a", JOIN, bind))


@pytest.mark.parametrize("names", [("a", "a"), ("sources", "b")])
def test_names_are_unique_and_not_reserved(names: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="must be unique"):
        pipeline(*(Node(name, JOIN, {"left": "sources.table"}) for name in names))


def test_params_are_checked_whole() -> None:
    graph = chain([0, 1])
    assert graph.configs({"n0": {"seed": 3}, "n1": None}, "p")["n0"] == Empty(seed=3)
    with pytest.raises(ConfigError, match="unknown section 'n3'"):
        graph.configs({"n0": {}, "n1": {}, "n3": {}}, "p")
    with pytest.raises(ConfigError, match="no section 'n1'"):
        graph.configs({"n0": {}}, "p")
    with pytest.raises(ConfigError, match=r"p \[n1\]: unknown key 'sede': did you mean 'seed'"):
        graph.configs({"n0": {}, "n1": {"sede": 1}}, "p")


def test_sources_are_checked() -> None:
    graph = chain([0])
    paths = {"table": "a", "model": "b"}
    assert graph.source_paths({"sources": paths}, "p") == {"table": Path("a"), "model": Path("b")}
    with pytest.raises(ConfigError, match="no path for model"):
        graph.source_paths({"sources": {"table": "a"}}, "p")
    with pytest.raises(ConfigError) as caught:
        graph.source_paths({"sources": paths | {"tabel": "c"}}, "p")
    assert "did you mean 'table'" in caught.value.remedy


def test_paths_of_a_node() -> None:
    graph, root = chain([0, 1]), Path("root")
    first, second = graph.topological()
    assert graph.output_path(root, first, "page") == Path("root/n0/page.html")
    assert graph.metrics_path(root, first) == Path("root/n0/metrics.json")
    sources = {"table": Path("t"), "model": Path("m")}
    assert graph.input_paths(root, first, sources) == {"left": Path("t")}
    assert graph.input_paths(root, second, sources) == {"left": Path("root/n0/table")}


def test_an_unknown_node_is_suggested() -> None:
    with pytest.raises(ConfigError) as caught:
        chain([0]).node("n_0")
    assert "n0" in caught.value.remedy


def with_earlier(bind: dict[str, str]) -> Pipeline:
    """A source of which there may be an earlier one."""
    sources = {"table": TABLE, "earlier": TABLE}
    return Pipeline("test", "A test.", sources, (Node("a", JOIN, bind),), frozenset({"earlier"}))


def test_an_optional_source_is_bound_where_the_params_name_it_and_unbound_where_not() -> None:
    whole = with_earlier({"left": "sources.table", "right": "sources.earlier"})
    named = {"sources": {"table": "t", "earlier": "e"}}
    assert whole.given(named, "params.yaml") == whole
    assert whole.source_paths(named, "params.yaml") == {"table": Path("t"), "earlier": Path("e")}
    left = whole.given({"sources": {"table": "t"}}, "params.yaml")
    assert dict(left.node("a").bind) == {"left": "sources.table"}
    assert left.source_paths({"sources": {"table": "t"}}, "params.yaml") == {"table": Path("t")}
    with pytest.raises(ConfigError, match="no path for table"):
        left.source_paths({"sources": {}}, "params.yaml")


def test_a_port_that_has_to_be_bound_cannot_wait_for_an_optional_source() -> None:
    with pytest.raises(ValueError, match=r"left needs sources\.earlier, which may be left out"):
        with_earlier({"left": "sources.earlier"})
