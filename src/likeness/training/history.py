"""The curves of a run: one value a step and metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class History:
    """``curves[name][i]`` belongs to optimiser step ``i + 1``."""

    curves: dict[str, list[float]] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        """Append one step."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)

    def recent(self, name: str, window: int = 20) -> float:
        """Mean of the last ``window`` values."""
        tail = self.curves[name][-window:]
        return sum(tail) / len(tail)

    def gained(self, name: str, window: int = 20) -> float:
        """Mean of the last ``window`` values less that of the first; of a short run, of its halves."""
        curve = self.curves[name]
        window = max(1, min(window, len(curve) // 2))
        return (sum(curve[-window:]) - sum(curve[:window])) / window
