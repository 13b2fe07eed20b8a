"""search on the embedded models: what is found is what the rewards say of the file, and the laws of a search hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from likeness.core.errors import ConfigError, InputError, UnknownNameError
from likeness.core.io import INCOMPLETE, digest_path
from likeness.core.step import execute
from likeness.data.images import decode
from likeness.data.shards import read_rows
from likeness.models.generator import load_pipeline
from likeness.models.policy import make_policy
from likeness.models.subjects import Subjects
from likeness.rewards.base import Conditions
from likeness.rewards.compose import RewardAssets
from likeness.steps import search as step
from likeness.steps.search import SHEET, SPEC, SearchConfig
from likeness.training.bench import image_tensor, mean_embeddings
from tiny_finetune import EMBEDDED, PACK, finetune_inputs
from tiny_training import disturb

ASKED = ("a portrait of sks person, round glasses", "a portrait of ohwx person, smiling")
SMALL: dict[str, Any] = {"prompts": ASKED, "det_size": 64, "threads": 1, "search": {"best_of_n": {"n": 3, "steps": 2}}}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, sd15_folder: Path, clip_folder: Path) -> dict[str, Path]:
    made = finetune_inputs(tmp_path_factory.mktemp("inputs"), sd15_folder, clip_folder)
    bound = {name: made[name] for name in ("references", "reward", "encoder", "faces")}
    return {**bound, "base_model": EMBEDDED / "pipeline"}


def run(inputs: dict[str, Path], out: Path, **settings: Any) -> dict[str, Any]:
    return execute(SPEC, SearchConfig.model_validate(SMALL | settings), inputs, {"pictures": out})


def test_the_best_of_several_is_kept_with_the_reward_that_its_file_earns(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    metrics = run(inputs, tmp_path / "one")
    assert (metrics["prompts"], metrics["unet_forwards"], metrics["decodes"]) == (2, 2 * 3 * 2, 2 * 3)
    assert run(inputs, tmp_path / "two") == metrics
    assert digest_path(tmp_path / "one") == digest_path(tmp_path / "two")
    assert not list(tmp_path.rglob(f"*{INCOMPLETE}"))
    rows = read_rows(tmp_path / "one")
    assert [row["prompt"] for row in rows] == list(ASKED)
    assert all(row["reward"] >= row["reward_first"] and row["looked_at"] == 3 for row in rows)
    assert any(row["reward"] > row["reward_first"] for row in rows)
    reward = RewardAssets(reward=inputs["reward"], encoder=inputs["encoder"], faces=PACK, det_size=64).identity
    people = read_rows(inputs["references"])
    means = mean_embeddings(reward, image_tensor(people, 64), [str(row["subject"]) for row in people])
    faces = Subjects({str(row["token"]): means[str(row["subject"])] for row in people}).of(ASKED)
    again = reward(image_tensor(rows, 64), Conditions(ASKED, faces))
    # eight bits a channel are what the file has kept
    assert again.tolist() == pytest.approx([row["reward"] for row in rows], abs=0.02)
    with Image.open(tmp_path / "one" / SHEET) as sheet:
        tiles = np.asarray(sheet).reshape(2, 64, 2, 64, 3).swapaxes(1, 2)
    assert all((tiles[i, 1] == decode(row["image"])).all() for i, row in enumerate(rows))


def test_another_prompt_changes_no_picture_found_before_and_the_same_one_twice_is_two(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    run(inputs, tmp_path / "few")
    run(inputs, tmp_path / "more", prompts=(ASKED[1], ASKED[0], ASKED[0]))
    few, more = (read_rows(tmp_path / name) for name in ("few", "more"))
    assert [more[1]["id"], more[0]["id"]] == [row["id"] for row in few]
    assert more[2]["id"] != more[1]["id"]


def test_a_killed_search_goes_on_with_the_prompt_it_was_at(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(inputs, tmp_path / "whole")
    plain, asked = step._search, []

    def killed(config: Any, bench: Any, shown: Any, number: int, told: Any) -> Any:
        asked.append(number)
        if number == 1 and len(asked) == 2:
            raise KeyboardInterrupt
        return plain(config, bench, shown, number, told)

    monkeypatch.setattr(step, "_search", killed)
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path / "cut")
    run(inputs, tmp_path / "cut")
    assert asked == [0, 1, 1]
    assert digest_path(tmp_path / "cut") == digest_path(tmp_path / "whole")


def test_a_gradient_search_sees_an_adapter_and_whom_it_was_trained_for(inputs: dict[str, Path], tmp_path: Path) -> None:
    pipeline = load_pipeline(EMBEDDED / "pipeline")
    adapters = step.Plan.model_validate({"trainable": {"image_prompt": {"embedding": 16}}}).adapters()
    policy = make_policy(pipeline, adapters, 0)
    disturb(policy)
    policy.save(tmp_path / "adapter")
    Subjects({"sks": torch.nn.functional.normalize(torch.ones(16), dim=0)}).save(tmp_path / "adapter")
    bound = {**inputs, "lora": tmp_path / "adapter"}
    settings = {"prompts": ASKED[:1], "search": {"reno": {"iterations": 3, "steps": 1}}}
    metrics = run(bound, tmp_path / "found", **settings)
    assert (metrics["unet_forwards"], metrics["unet_backwards"]) == (3, 2)
    assert metrics["reward"] >= metrics["reward_first"]
    plain = run(inputs, tmp_path / "plain", **settings)
    assert plain["reward_first"] != metrics["reward_first"]


def test_mistakes_are_named_before_anything_is_drawn(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names none of the subjects' tokens"):
        run(inputs, tmp_path / "out", prompts=("a portrait of a person",))
    assert run(inputs, tmp_path / "words", prompts=("a portrait of a person",), rewards={"text": 1.0})["prompts"] == 1
    with pytest.raises(ConfigError, match="exactly one"):
        SearchConfig.model_validate({"search": {"reno": {}, "best_of_n": {}}})
    with pytest.raises(ConfigError, match="an empty one"):
        SearchConfig.model_validate({"prompts": [" "]})
    for wrong in ({"search": "renno"}, {"rewards": {"identty": 1.0}}):
        with pytest.raises(UnknownNameError, match="there is no"):
            SearchConfig.model_validate(wrong)
