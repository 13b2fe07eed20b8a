"""The page of figures is what the benches wrote."""

from __future__ import annotations

from summary import ROOT, best_at_equal_mean, page, table


def test_the_page_is_written_from_the_results() -> None:
    written = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert written == page(), "run python benchmarks/summary.py"


def test_a_gain_counts_only_at_an_equal_mean_gradient() -> None:
    methods = {
        "ReFL": {},
        "biased": {"p": 0.01, "gain": [9.0, 8.0, 10.0]},
        "fair": {"p": 0.4, "gain": [3.5, 2.0, 6.0]},
        "slow": {"p": 0.9, "gain": [0.5, 0.2, 1.0]},
    }
    assert best_at_equal_mean(methods) == ("fair", [3.5, 2.0, 6.0])


def test_a_table_by_hand() -> None:
    assert table(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |"
