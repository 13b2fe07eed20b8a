"""The page of figures is what the benches wrote."""

from __future__ import annotations

from summary import ROOT, Goal, best_at_equal_mean, page, table, verdict


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


def test_a_goal_is_reached_by_all_of_an_interval_or_on_average() -> None:
    assert [Goal("x", "b", found, least=2).row()[4] for found in (1.99, 2.0)] == ["no", "yes"]
    assert [Goal("x", "b", found, most=2).row()[4] for found in (2.0, 2.01)] == ["yes", "no"]
    assert Goal("x", "b", 3.0, least=2, low=2.1).row()[4] == "yes"
    assert "on average" in str(Goal("x", "b", 3.0, least=2, low=1.9).row()[4])
    assert Goal("x", "b", 1.9, least=2, low=1.0).row()[4] == "no"


def test_a_refusal_names_its_rules_without_their_figures() -> None:
    reasons = ["edge_density 0.049 [0.048, 0.049], 95 % interval", "aesthetic win rate 0.249 against 0.500"]
    assert verdict(reasons) == "refused: edge_density, aesthetic win rate"
    assert verdict([]) == "passed"


def test_a_table_by_hand() -> None:
    assert table(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |"
