"""What stands on a chart's axes can be read."""

from __future__ import annotations

import re

import pytest

from likeness.evaluation.report.charts import curve


@pytest.mark.parametrize("low", [0.25, -8.5, -13.561, -99.999, -1234567.0])
def test_a_label_is_on_the_picture_with_its_sign(low: float) -> None:
    """Eleven-pixel digits are below seven wide: a label that ends at x needs so much room to its left."""
    page = curve("reward", [1, 2, 3], [low, low / 2, 1.0])
    labels = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="end">([-\d.,]+)</text>', page)
    assert len(labels) == 3
    assert all(float(x) >= 7 * len(label) for x, label in labels)
    first = min(float(point.split(",")[0]) for point in re.findall(r'points="([^ ]+)', page))
    assert first > max(float(x) for x, _ in labels)
