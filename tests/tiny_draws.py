"""A kill while pictures are drawn, and a count of what is drawn after it."""

from __future__ import annotations

from typing import Any

import pytest

from likeness.models import drawing


class Draws:
    """Stands before the real ``generate``: counts its calls, and fails at the ``fatal`` one as a kill would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fatal: int) -> None:
        self.count, self.fatal, self.generate = 0, fatal, drawing.generate
        monkeypatch.setattr(drawing, "generate", self)

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        self.count += 1
        if self.count == self.fatal:
            raise KeyboardInterrupt
        return self.generate(*arguments, **settings)
