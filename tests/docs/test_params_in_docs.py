"""What the docs say to write into a params file is accepted there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from likeness.core.config import parse_config
from likeness.orchestration.catalogue import load_step

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = [
    pytest.param(name, section, id=f"{page.stem}-{name}-{i}")
    for page in sorted(DOCS.glob("*.md"))
    for i, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL))
    for name, section in (yaml.safe_load(block) or {}).items()
    if name in ("finetune", "evaluate", "gate", "train_reward", "mine_preferences", "filter_faces", "caption", "split")
]


@pytest.mark.parametrize(("name", "section"), BLOCKS)
def test_a_section_in_the_docs_is_one_that_its_step_reads(name: str, section: dict[str, object]) -> None:
    parse_config(load_step(name).config, section, name)


def test_there_are_some() -> None:
    assert len(BLOCKS) >= 4
