"""Logs over broken connections: nothing is lost, repeated or cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from drivers.fake_kubernetes import FakeKubernetes
from drivers.launching import QUICK, logged, run
from likeness.orchestration.cluster import Patience
from likeness.orchestration.trainjob_pods import log_lines


def test_a_dropped_log_loses_and_repeats_nothing_even_within_a_line(api, cluster, manifest) -> None:
    def story(api: FakeKubernetes, name: str) -> None:
        pod = api.run(name)
        api.log(pod, "one")
        api.log_bytes(pod, f"{api.stamp()} tw".encode())
        api.sent(pod)
        api.drop("log")
        api.log_bytes(pod, b"o\n")
        api.log(pod, "three")
        api.sent(pod)
        api.drop("log")
        api.end(pod)
        api.condition(name, "Complete")

    api.story = story
    assert logged(run(cluster, manifest)) == ["one", "two", "three"]


def test_a_log_may_break_more_often_than_requests_may_fail_in_a_row(api, cluster, manifest) -> None:
    breaks = 2 * len(QUICK.pauses)

    def story(api: FakeKubernetes, name: str) -> None:
        pod = api.run(name)
        for number in range(breaks):
            api.log(pod, f"line {number}")
            api.sent(pod)
            opened = api.verbs("pods/log").count("get")
            api.drop("log")
            api.until(lambda opened=opened: api.verbs("pods/log").count("get") > opened)
        api.end(pod)
        api.condition(name, "Complete")

    api.story = story
    assert logged(run(cluster, manifest)) == [f"line {number}" for number in range(breaks)]


def test_a_last_line_without_an_end_is_shown(api, cluster, manifest) -> None:
    def story(api: FakeKubernetes, name: str) -> None:
        pod = api.run(name)
        api.log_bytes(pod, f"{api.stamp()} no newline".encode())
        api.end(pod)
        api.condition(name, "Complete")

    api.story = story
    assert logged(run(cluster, manifest)) == ["no newline"]


def test_states_of_a_progress_bar_are_thinned_out(api, cluster, manifest) -> None:
    def story(api: FakeKubernetes, name: str) -> None:
        pod = api.run(name)
        states = "".join(f"\r{step}%" for step in range(100))
        api.log_bytes(pod, f"{api.stamp()} {states}\r100%\n".encode())
        api.end(pod)
        api.condition(name, "Complete")

    api.story = story
    hour = Patience(window=1, pauses=(0.01,), progress=3600, drain=10)
    assert logged(run(cluster, manifest, hour)) == ["0%", "100%"]


# The log's format.

STAMPS = [f"2026-01-01T00:00:00.00000000{digit}Z" for digit in range(3)]
WORDS = st.text(st.sampled_from("ab €"), max_size=3)
LINES = st.lists(st.tuples(st.sampled_from(STAMPS), st.lists(WORDS, min_size=1, max_size=3)), max_size=6)


@given(LINES, st.lists(st.integers(0, 400), max_size=6))
def test_pieces_of_a_log_do_not_depend_on_how_it_was_cut(lines: list[tuple[str, list[str]]], cuts: list[int]) -> None:
    lines.sort()  # times never run backwards
    data = "".join(stamp + " " + "\r".join(words) + "\n" for stamp, words in lines).encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in pairwise(edges)]
    pieces = list(log_lines(chunks))
    assert pieces == list(log_lines([data]))
    assert [text for _, text, _ in pieces] == [word for _, words in lines for word in words]
    positions = [position for position, _, _ in pieces]
    assert positions == sorted(set(positions))
