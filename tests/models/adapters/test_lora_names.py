"""A LoRA whose tensors nothing reads is refused: diffusers and peft draw the base model in its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from likeness.core.errors import InputError
from likeness.models.adapters.lora import FILE
from likeness.models.generator import load_pipeline
from likeness.models.kohya import to_kohya
from likeness.models.policy import tuned
from tiny_training import disturb, policy_of

Weights = dict[str, torch.Tensor]
RENAMED: dict[str, tuple[Callable[[str], str], str]] = {
    "another tool's prefix": (lambda name: f"model.diffusion_model.{name}", "0 of"),
    "no prefix of a part": (lambda name: name.replace("unet.", "network."), "0 of"),
    "modules that are not there": (lambda name: name.replace("unet.", "unet.inner."), "0 of"),
    "half of them": (lambda name: name.replace(".attn2.", ".attn9."), " of"),
}


@pytest.fixture
def saved(sd15_folder: Path, tmp_path: Path) -> Path:
    policy = policy_of(sd15_folder, trainable={"lora": {"rank": 2, "text_rank": 2}})
    disturb(policy)
    policy.save(tmp_path / "lora")
    return tmp_path / "lora"


@pytest.mark.parametrize("case", RENAMED)
def test_tensors_without_a_place_are_refused_and_the_pipeline_is_left_as_it_was(
    sd15_folder: Path, saved: Path, case: str
) -> None:
    rename, told = RENAMED[case]
    weights: Weights = load_file(saved / FILE)
    save_file({rename(name): tensor for name, tensor in weights.items() if name.startswith("unet.")}, saved / FILE)
    pipeline = load_pipeline(sd15_folder)
    with pytest.raises(InputError, match=f"{told} .*tensors of .*{FILE} have a place"), tuned(pipeline, saved):
        pass
    assert not any("lora" in name for name, _ in pipeline.unet.named_parameters())


def test_another_tools_format_that_diffusers_reads_has_a_place_for_every_tensor(
    sd15_folder: Path, saved: Path, tmp_path: Path
) -> None:
    """Kohya's has a scale beside each layer, which is no tensor of the LoRA's own."""
    (tmp_path / "kohya").mkdir()
    to_kohya(saved, tmp_path / "kohya" / FILE)
    with tuned(load_pipeline(sd15_folder), tmp_path / "kohya"):
        pass
