"""The LoRA: equal seeds give equal bytes, adapter off is the base model, plain diffusers loads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from likeness.core.io import digest_file
from likeness.models.adapters.lora import FILE as LORA_FILE
from likeness.models.generator import generate, load_pipeline
from likeness.models.policy import tuned
from likeness.training.algorithm import Slots
from tiny import FAMILIES
from tiny_training import PROMPTS, disturb, policy_of, run_step, toy_algorithm

SAMPLING = {"steps": 2, "guidance_scale": 2.0, "batch": 3}
# Leaving likeness off the path would hide the other packages too, so its import is barred.
PLAIN_DIFFUSERS = """
import sys
class Bar:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "likeness":
            raise ImportError("likeness is barred here")
sys.meta_path.insert(0, Bar())
try:
    import likeness
    raise SystemExit("likeness could be imported")
except ImportError:
    pass
import logging, torch, warnings
warnings.simplefilter("error", RuntimeWarning)  # peft's word for names that found no place
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import save_file
heard = []
class Ear(logging.Handler):
    def emit(self, record):
        heard.append(record.getMessage())
diffusers_logging.set_verbosity_warning()
diffusers_logging.add_handler(Ear())
logging.getLogger("peft").addHandler(Ear())
prompts = ["a portrait of sks person, smiling", "a portrait of sks person, sad", "a portrait of ukj person"]
for base, lora in zip(sys.argv[1::2], sys.argv[2::2]):
    pipeline = DiffusionPipeline.from_pretrained(base, use_safetensors=True)
    pipeline.load_lora_weights(lora)
    # Said of every LoRA that has no text encoder part.
    warned = [text for text in heard if not text.startswith("No LoRA keys associated to CLIPText")]
    if warned:
        raise SystemExit(f"loading warned: {warned}")
    seeds = [torch.Generator().manual_seed(s) for s in (1, 2, 3)]
    given = dict(height=64, width=64, num_inference_steps=2, guidance_scale=2.0, output_type="pt")
    if "Inpaint" in type(pipeline).__name__:
        given.update(image=torch.zeros(3, 3, 64, 64), mask_image=torch.ones(3, 1, 64, 64))
    images = pipeline(prompts, generator=seeds, **given).images
    network = pipeline.components.get("unet") or pipeline.components["transformer"]
    weights = {n.replace("default_0", "A"): p.detach() for n, p in network.named_parameters() if "lora_" in n}
    save_file({"images": images.contiguous(), **weights}, lora + "/plain.safetensors")
"""


def test_plain_diffusers_loads_the_lora_and_draws_the_same(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """One process for all families: importing diffusers is most of the cost."""
    bases = {name: request.getfixturevalue(name) for name in FAMILIES}
    policies = {name: policy_of(base) for name, base in bases.items()}
    arguments = []
    for name, policy in policies.items():
        disturb(policy)
        policy.save(tmp_path / name)
        arguments += [str(bases[name]), str(tmp_path / name)]
    command = [sys.executable, "-c", PLAIN_DIFFUSERS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, policy in policies.items():
        loaded = load_file(tmp_path / name / "plain.safetensors")
        ours = generate(policy.pipeline, PROMPTS, [1, 2, 3], **SAMPLING)
        torch.testing.assert_close(loaded.pop("images"), ours, atol=1e-5, rtol=0)
        trained = {k.partition(".")[2].replace(".likeness.", ".A."): p for k, p in policy.trainable().items()}
        assert loaded.keys() == trained.keys()
        assert all(torch.equal(loaded[key], trained[key]) for key in loaded)


def test_equal_weights_are_equal_bytes_and_seeds_decide_them(sd15_folder: Path, tmp_path: Path) -> None:
    digests = set()
    for attempt in range(6):  # safetensors orders several metadata keys at random
        policy_of(sd15_folder, seed=4).save(tmp_path / str(attempt))
        digests.add(digest_file(tmp_path / str(attempt) / LORA_FILE))
    assert len(digests) == 1
    policy_of(sd15_folder, seed=5).save(tmp_path / "other")
    assert digest_file(tmp_path / "other" / LORA_FILE) not in digests


def test_rank_scale_and_targets_travel_with_the_file(sd15_folder: Path, tmp_path: Path) -> None:
    policy = policy_of(sd15_folder, rank=2, alpha=6.0, targets=("to_k", "to_v"))
    assert {name.split(".")[-4] for name in policy.trainable()} == {"to_k", "to_v"}
    policy.save(tmp_path)
    with safe_open(tmp_path / LORA_FILE, framework="pt") as stream:
        metadata = json.loads(stream.metadata()["lora_adapter_metadata"])
    assert (metadata["unet.r"], metadata["unet.lora_alpha"]) == (2, 6.0)
    assert metadata["unet.target_modules"] == ["to_k", "to_v"]


@pytest.mark.parametrize("trainable", [{"lora": {"rank": 4}}, {"full": {"modules": "attn2"}}])
def test_keeping_a_share_of_the_update_lies_on_the_line_to_the_base_model(sd15_folder: Path, trainable: dict) -> None:
    """In the weights that act: base + share (tuned - base)."""
    policy = policy_of(sd15_folder, trainable=trainable)
    layer = next(m for n, m in policy.network.named_modules() if n.endswith("attn2.to_k"))
    inputs = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
    base = layer(inputs)
    disturb(policy)
    moved = layer(inputs) - base
    assert moved.abs().max() > 1e-3
    policy.shrink(0.25)
    torch.testing.assert_close(layer(inputs) - base, 0.25 * moved, atol=1e-5, rtol=1e-4)


def test_targets_without_an_older_name_are_saved_too(sd15_folder: Path, tmp_path: Path) -> None:
    """diffusers has older names for attention projections only, and reads a file of both by halves."""
    policy = policy_of(sd15_folder, targets=("proj_in", "to_k"))
    disturb(policy)
    policy.save(tmp_path)
    trained = generate(policy.pipeline, PROMPTS, [1, 2, 3], **SAMPLING)
    base = load_pipeline(sd15_folder)
    with tuned(base, tmp_path):
        torch.testing.assert_close(generate(base, PROMPTS, [1, 2, 3], **SAMPLING), trained, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_changes_no_gradient(family: str, request: pytest.FixtureRequest) -> None:
    gradients = []
    for checkpointing in (False, True):
        policy = policy_of(request.getfixturevalue(family), gradient_checkpointing=checkpointing)
        disturb(policy)
        run_step(toy_algorithm(policy), policy, Slots(0, 0, 0, 2)).loss.sum().backward()
        gradients.append({name: p.grad for name, p in policy.trainable().items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_a_rank_is_written_with_its_weights_only(sd15_folder: Path, tmp_path: Path) -> None:
    """The file holds LoRA tensors and nothing of the base model."""
    policy = policy_of(sd15_folder)
    policy.save(tmp_path)
    with safe_open(tmp_path / LORA_FILE, framework="pt") as stream:
        names = list(stream.keys())
    assert len(names) == len(policy.trainable())
    assert all(name.startswith("unet.") and ".lora" in name for name in names)
