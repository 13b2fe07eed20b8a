"""Kohya's naming against diffusers' own reader of it: equal weights, equal scales, equal pictures, no key left over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from likeness.core.errors import InputError
from likeness.models.adapters.lora import NAME
from likeness.models.kohya import to_kohya
from models.loras import trained

# As kohya-ss/sd-scripts names them (networks/lora.py: prefix + "." + module name, dots replaced by underscores).
UNET = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
TEXT = "text_model_encoder_layers_0_self_attn_q_proj"
PUBLISHED = {
    "sd15_folder": {UNET, f"lora_te_{TEXT}"},
    "sdxl_folder": {UNET, f"lora_te1_{TEXT}", f"lora_te2_{TEXT}"},
}


def picture(pipeline: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    size = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "pt"}
    return pipeline("a face", generator=generator, guidance_scale=1.0, **size).images


@pytest.mark.parametrize("targets", [(), ("to_q", "to_out.0", "ff.net.0.proj", "conv1", "proj_in")])
@pytest.mark.parametrize("family", ["sd15_folder", "sdxl_folder"])
def test_diffusers_reads_back_what_was_written(
    family: str, targets: tuple[str, ...], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base = request.getfixturevalue(family)
    state = trained(base, tmp_path / "lora", rank=4, alpha=6.0, targets=targets, text_rank=2, text_alpha=3.0)
    count = to_kohya(tmp_path / "lora", tmp_path / "kohya.safetensors")
    written = load_file(tmp_path / "kohya.safetensors")
    assert len(written) == 3 * count == 3 * sum(len(tensors) for tensors in state.values()) / 2
    assert all(name.split(".", 1)[1] in {"lora_down.weight", "lora_up.weight", "alpha"} for name in written)
    if not targets:
        assert PUBLISHED[family] <= {name.split(".")[0] for name in written}
    plain, kohya = DiffusionPipeline.from_pretrained(base), DiffusionPipeline.from_pretrained(base)
    before = picture(plain)
    plain.load_lora_weights(tmp_path / "lora", adapter_name=NAME)
    kohya.load_lora_weights(tmp_path, weight_name="kohya.safetensors", adapter_name=NAME)
    for component, tensors in state.items():
        found = get_peft_model_state_dict(getattr(kohya, component), adapter_name=NAME)
        assert set(found) == set(tensors)
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert torch.equal(picture(plain), picture(kohya))
    assert not torch.equal(picture(kohya), before)


def test_what_has_no_form_there_is_refused(sd15_folder: Path, tmp_path: Path) -> None:
    trained(sd15_folder, tmp_path / "dora", rank=2, dora=True)
    with pytest.raises(InputError, match="no form in Kohya's naming"):
        to_kohya(tmp_path / "dora", tmp_path / "out.safetensors")
    (tmp_path / "flux").mkdir()
    name = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight"
    save_file({name: torch.zeros(2, 2)}, tmp_path / "flux/pytorch_lora_weights.safetensors")
    with pytest.raises(InputError, match="ComfyUI reads"):
        to_kohya(tmp_path / "flux", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
