"""The fewest votes whose removal leaves one person's preferences without a circle (a minimum feedback arc set).

In a > b > c > a one vote is at odds with the two others, and nothing says which: the fewest votes go, so that two stay.
Among equally small sets the one of the oldest votes goes, as of duplicates the latest stays: people learn the task.
Exact by dynamic programming over the sets of pictures already placed (2^n sets) for circles among up to ``EXACT``
pictures. Beyond, votes are taken from the latest to the oldest, and one that closes a circle with those taken goes:
none too few, perhaps some too many.
"""

from __future__ import annotations

from collections.abc import Sequence

EXACT = 11
Edge = tuple[str, str]  # winner, loser


def smallest_feedback(edges: Sequence[Edge]) -> list[tuple[int, list[int]]]:
    """Indices of the edges to remove, each with those of a circle that it closes. ``edges``: distinct, oldest first.

    No edge outside a circle is ever removed.
    """
    removed: list[int] = []
    for part in _knots(edges):
        nodes = sorted({node for i in part for node in edges[i]})
        removed += _exact(edges, part, nodes) if len(nodes) <= EXACT else _latest_first(edges, part)
    return [(i, [i, *(path(edges, range(len(edges)), *reversed(edges[i])) or ())]) for i in sorted(removed)]


def path(edges: Sequence[Edge], allowed: Sequence[int], start: str, goal: str) -> list[int] | None:
    """A shortest path of ``allowed`` edges from ``start`` to ``goal``, as their indices; None: there is none."""
    leaving: dict[str, list[int]] = {}
    for i in allowed:
        leaving.setdefault(edges[i][0], []).append(i)
    came: dict[str, int] = {}
    front = [start]
    while front and goal not in came:
        ahead = []
        for node in front:
            for i in leaving.get(node, ()):
                if edges[i][1] not in came:
                    came[edges[i][1]] = i
                    ahead.append(edges[i][1])
        front = ahead
    if goal not in came:
        return None
    steps = [came[goal]]
    while edges[steps[-1]][0] != start:
        steps.append(came[edges[steps[-1]][0]])
    return steps[::-1]


def _knots(edges: Sequence[Edge]) -> list[list[int]]:
    """The edges that lie on a circle, by strongly connected component."""
    leaving: dict[str, set[str]] = {}
    for winner, loser in edges:
        leaving.setdefault(winner, set()).add(loser)
    reach = {node: _reachable(leaving, node) for node in leaving}
    knots: dict[frozenset[str], list[int]] = {}
    for i, (winner, loser) in enumerate(edges):
        if winner in reach.get(loser, ()):
            knot = frozenset(node for node in reach[winner] if winner in reach.get(node, ()))
            knots.setdefault(knot, []).append(i)
    return list(knots.values())


def _reachable(leaving: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    stack = [start]
    while stack:
        for node in leaving.get(stack.pop(), ()):
            if node not in seen:
                seen.add(node)
                stack.append(node)
    return seen


def _exact(edges: Sequence[Edge], part: Sequence[int], nodes: Sequence[str]) -> list[int]:
    """The order of ``nodes`` against which the fewest, then the oldest, edges of ``part`` point."""
    place = {node: position for position, node in enumerate(nodes)}
    # One edge fewer outweighs any ages; among as many, leaving out a later edge costs more than all older ones.
    weight = {i: (1 << 2 * len(part)) + (1 << age) for age, i in enumerate(part)}
    beats: list[list[tuple[int, int]]] = [[] for _ in nodes]
    for i in part:
        beats[place[edges[i][0]]].append((1 << place[edges[i][1]], i))
    best: list[tuple[int, int]] = [(0, -1)] * (1 << len(nodes))  # cost of placing this set on top, the node placed last
    for above in range(1, len(best)):
        best[above] = min(
            (best[above ^ 1 << v][0] + sum(weight[i] for mask, i in beats[v] if above & mask), v)
            for v in range(len(nodes))
            if above >> v & 1
        )
    gone, above = [], len(best) - 1
    while above:
        v = best[above][1]
        above ^= 1 << v
        gone += [i for mask, i in beats[v] if above & mask]
    return gone


def _latest_first(edges: Sequence[Edge], part: Sequence[int]) -> list[int]:
    kept: list[int] = []
    gone = []
    for i in reversed(part):
        if path(edges, kept, edges[i][1], edges[i][0]) is None:
            kept.append(i)
        else:
            gone.append(i)
    return gone
