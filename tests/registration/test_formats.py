"""`likeness registry export`: a LoRA leaves in both formats, and diffusers reads either with no key left over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from typer.testing import CliRunner

from likeness.cli import app
from likeness.core.errors import InputError
from likeness.models.adapters.lora import NAME
from likeness.registration.register import register
from likeness.registration.registry import Registry
from models.loras import trained
from registration.planted import decided

# As kohya-ss/sd-scripts names them (networks/lora.py: prefix + "." + module name, dots replaced by underscores).
PUBLISHED = {
    f"lora_{module}.{part}"
    for module in (
        "unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q",
        "unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0",
        "te_text_model_encoder_layers_0_self_attn_q_proj",
    )
    for part in ("lora_down.weight", "lora_up.weight", "alpha")
}


def run(registry: Registry, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["registry", *arguments, "--store", str(registry)])
    if done.exception:
        raise done.exception
    return done.output


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_a_version_leaves_in_either_format(form: str, sd15_folder: Path, tmp_path: Path) -> None:
    state = trained(sd15_folder, tmp_path / "lora", rank=4, alpha=6.0, text_rank=2, text_alpha=3.0)
    registry = Registry.open(tmp_path / "registry")
    register(registry, "m", tmp_path / "lora", decided(tmp_path / "lora", tmp_path / "decision"))
    out = tmp_path / "out"
    written = out / "m.safetensors" if form == "kohya" else out
    assert f"is in {written}" in run(registry, "export", "m", str(out), "--format", form)
    file = next(out.glob("*.safetensors"))
    if form == "kohya":
        with safe_open(file, framework="pt") as opened:
            assert set(opened.keys()) >= PUBLISHED
            assert opened.metadata()["likeness.manifest"] == registry.state().version("m", 1).manifest
    pipeline = DiffusionPipeline.from_pretrained(sd15_folder)
    pipeline.load_lora_weights(out, weight_name=file.name, adapter_name=NAME)
    for component, tensors in state.items():
        found = get_peft_model_state_dict(getattr(pipeline, component), adapter_name=NAME)
        assert set(found) == set(tensors)
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_what_has_no_form_in_kohya_leaves_no_file(sd15_folder: Path, tmp_path: Path) -> None:
    trained(sd15_folder, tmp_path / "lora", rank=2, dora=True)
    registry = Registry.open(tmp_path / "registry")
    register(registry, "m", tmp_path / "lora", decided(tmp_path / "lora", tmp_path / "decision"))
    with pytest.raises(InputError, match="diffusers' format"):
        run(registry, "export", "m", str(tmp_path / "m.safetensors"), "--format", "kohya")
    assert not (tmp_path / "m.safetensors").exists()
    run(registry, "export", "m", str(tmp_path / "out"))
    assert (tmp_path / "out" / "pytorch_lora_weights.safetensors").is_file()
