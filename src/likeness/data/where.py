"""Conditions over the columns of a row, written as one expression in params: ``face_px >= 96 and blur > 40``.

What may stand there: columns, numbers, texts, ``None``, ``True`` and ``False``; ``and``, ``or``, ``not``; comparisons,
``in`` and ``not in`` a list; ``+ - * /`` and ``abs``. Nothing else of Python is taken, so a params file can do no more
than compare.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from likeness.core.errors import ConfigError, did_you_mean

_LOGIC = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not)
_COMPARISONS = (ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot)
_NUMBERS = (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub, ast.UAdd, ast.Call)
_VALUES = (ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple)
_ALLOWED = (*_LOGIC, *_COMPARISONS, *_NUMBERS, *_VALUES)
_FUNCTIONS = {"abs": abs}
_GRAMMAR = "compare columns with values, such as face_count == 1 and face_px >= 96 and blur > 40"


@dataclass(frozen=True)
class Condition:
    """One part of an expression that ``and`` joins: its text, and the columns it reads."""

    text: str
    columns: tuple[str, ...]
    _code: Any

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether ``row`` meets it. What cannot be compared, such as a measure that is None, does not."""
        values = {name: row[name] for name in self.columns}
        try:
            return bool(eval(self._code, {"__builtins__": {}, **_FUNCTIONS}, values))  # noqa: S307  (only _ALLOWED)
        except (TypeError, ZeroDivisionError):
            return False

    def sentence(self, row: Mapping[str, Any]) -> str:
        """Why ``row`` does not meet it."""
        seen = ", ".join(f"{name} is {_shown(row[name])}" for name in self.columns)
        return f"not {self.text} ({seen})" if seen else f"not {self.text}"


def parse_where(text: str) -> tuple[Condition, ...]:
    """The conditions of an expression, all of which have to hold; none for an empty text.

    Raises:
        ConfigError: it is no such expression.
    """
    if not text.strip():
        return ()
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"where: {text!r} is no expression: {error}", remedy=_GRAMMAR) from None
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS)
        if called or not isinstance(node, _ALLOWED):
            raise ConfigError(f"where: {ast.unparse(node)!r} may not stand in {text!r}", remedy=_GRAMMAR)
    joined = isinstance(tree.body, ast.BoolOp) and isinstance(tree.body.op, ast.And)
    return tuple(_condition(part) for part in (tree.body.values if joined else [tree.body]))  # type: ignore[attr-defined]


def check_columns(
    conditions: Collection[Condition], known: Collection[str], ways: Mapping[str, str] | None = None
) -> None:
    """Raises ConfigError for the first column that is not among ``known``, with the nearest that are.

    ``ways``: what to do to have columns that may not be there.
    """
    possible = ways or {}
    for condition in conditions:
        for name in condition.columns:
            if name not in known:
                remedy = possible.get(name) or did_you_mean(name, {*known, *possible})
                raise ConfigError(f"where: there is no column '{name}'", remedy=remedy)


def _condition(part: ast.expr) -> Condition:
    names = {node.id for node in ast.walk(part) if isinstance(node, ast.Name)} - _FUNCTIONS.keys()
    code = compile(ast.fix_missing_locations(ast.Expression(part)), "where", "eval")
    return Condition(ast.unparse(part), tuple(sorted(names)), code)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
