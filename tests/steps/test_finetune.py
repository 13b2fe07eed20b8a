"""finetune on a tiny random pipeline with the real face pack and a real reward folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from likeness.core.errors import ConfigError, InputError
from likeness.core.io import INCOMPLETE, digest_path
from likeness.core.step import execute
from likeness.data.images import encode_png
from likeness.data.shards import read_rows, write_shards
from likeness.models.adapters.image_prompt import FILE as ADAPTER_FILE
from likeness.models.adapters.lora import FILE as LORA_FILE
from likeness.models.faces.pack import recogniser_digest
from likeness.models.generator import generate, load_pipeline
from likeness.models.policy import tuned
from likeness.models.subjects import Subjects
from likeness.rewards.compose import REWARDS, RewardAssets
from likeness.steps.finetune import SPEC, FinetuneConfig
from likeness.training.bench import draw_rows, image_tensor, mean_embeddings
from tiny import tiny_decoder
from tiny_finetune import EMBEDDED, PACK, SMALL, finetune_inputs, finetune_preferences


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, sd15_folder: Path, clip_folder: Path) -> dict[str, Path]:
    return finetune_inputs(tmp_path_factory.mktemp("inputs"), sd15_folder, clip_folder)


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune_preferences(tmp_path_factory.mktemp("preferences"))


def run(inputs: dict[str, Path], out: Path, **settings: Any) -> dict[str, Any]:
    return execute(SPEC, FinetuneConfig.model_validate(SMALL | settings), inputs, {"lora": out})


def test_id_aligner_writes_a_lora_its_curves_grids_and_card_and_does_so_again(
    inputs: dict[str, Path], sd15_folder: Path, tmp_path: Path
) -> None:
    settings = {
        "rewards": {"identity": 0.2, "appeal": 0.1, "structure": 0.1},
        "losses": {"reward_backprop": {}, "denoising": {}, "prior": {"weight": 0.5, "images": 3}},
    }
    metrics = run(inputs, tmp_path / "one" / "lora", **settings)
    run(inputs, tmp_path / "two" / "lora", **settings)
    lora = tmp_path / "one" / "lora"
    assert digest_path(lora) == digest_path(tmp_path / "two" / "lora")
    assert not list(lora.rglob(f"*{INCOMPLETE}"))
    assert {p.name for p in (lora / "samples").iterdir()} == {"step-0000.png", "step-0002.png"}
    with Image.open(lora / "samples" / "step-0002.png") as grid:
        assert grid.size == (4 * 64, 2 * 64)
    record = json.loads((lora / "training.json").read_text("utf-8"))
    curves = record["curves"]
    assert record["reward_recogniser"] == recogniser_digest(PACK)
    cost = record["cost"]
    assert cost["tflop"] == pytest.approx(cost["tflop_per_sample"] * 2 * 2)  # batch 2, 2 steps
    rewards = {name: curves[f"reward/{name}"] for name in ("identity", "appeal", "structure")}
    assert cost["reward_gained_per_tflop"] == pytest.approx(
        {name: (curve[1] - curve[0]) / cost["tflop"] for name, curve in rewards.items()}
    )
    assert f"{cost['tflop_per_sample']:.3g} TFLOP" in (lora / "README.md").read_text("utf-8")
    assert {name for name in curves if "/" in name} == {
        "loss/total", "loss/denoising", "loss/prior",
        "reward/identity", "reward/appeal", "reward/structure", "missed/identity",
    }  # fmt: skip
    assert {len(curve) for curve in curves.values()} == {2}
    # random latents show no face: reward 0, counted, and still in the mean
    assert curves["missed/identity"] == [1.0, 1.0]
    assert curves["reward/identity"] == [0.0, 0.0]
    for step in range(2):
        expected = (
            0.2 * 1.0
            - 0.1 * (curves["reward/appeal"][step] + curves["reward/structure"][step])
            + curves["loss/denoising"][step]
            + 0.5 * curves["loss/prior"][step]
        )
        assert curves["loss/total"][step] == pytest.approx(expected, rel=1e-4)
    assert record["counts"]["decodes"] == 4
    assert metrics["unet_backwards"] == 12
    assert "2404.15449" in (lora / "README.md").read_text("utf-8")
    with tuned(load_pipeline(sd15_folder), lora):
        pass
    assert (lora / LORA_FILE).stat().st_size < 200_000


def test_a_tracked_run_has_the_lineage_and_the_bytes_of_one_that_is_not(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"recipe": "denoising_lora"}
    run(inputs, tmp_path / "plain" / "lora", **small)
    monkeypatch.setenv("LIKENESS_TRACKING", f"jsonl:{tmp_path}/curves tensorboard:{tmp_path}/events")
    for folder in ("tracked", "elsewhere"):  # the same run in another place is another run
        run(inputs, tmp_path / folder / "lora", **small)
    plain, tracked = (tmp_path / name / "lora" for name in ("plain", "tracked"))
    assert digest_path(tracked) == digest_path(plain)
    assert (tracked / "_lineage.json").read_bytes() == (plain / "_lineage.json").read_bytes()
    file, other = (tmp_path / "curves").iterdir()
    assert file.read_bytes() == other.read_bytes()
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    curves = json.loads((tracked / "training.json").read_text("utf-8"))["curves"]
    assert {name: [line[name] for line in lines] for name in lines[0]} == curves
    assert file.name.startswith("denoising_lora-")
    assert (tmp_path / "events" / file.stem).is_dir()


def test_a_misconfigured_tracker_is_an_error_before_anything_is_read(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_TRACKING", "mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "no model").mkdir()
    with pytest.raises(ConfigError, match="no URI"):
        run({**inputs, "base_model": tmp_path / "no model"}, tmp_path / "lora")


def test_the_baseline_decodes_nothing_and_needs_no_reward(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = run(inputs, tmp_path / "lora", recipe="denoising_lora")
    assert metrics["decodes"] == 0
    assert metrics["unet_forwards"] == metrics["unet_backwards"] == 4


def test_a_small_decoder_shows_the_rewards_their_pictures_and_the_record_says_so(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    """Another decoder, other rewards and a cheaper sample; the grid of the base model is still drawn by its own VAE."""
    settings = {"rewards": {"appeal": 1.0}, "losses": {"reward_backprop": {}}}
    run(inputs, tmp_path / "own" / "lora", **settings)
    run({**inputs, "small_decoder": tiny_decoder(tmp_path / "taesd")}, tmp_path / "small" / "lora", **settings)
    own, small = (json.loads((tmp_path / name / "lora/training.json").read_text("utf-8")) for name in ("own", "small"))
    assert own["curves"]["reward/appeal"] != small["curves"]["reward/appeal"]
    assert own["cost"]["tflop_per_sample"] > small["cost"]["tflop_per_sample"]
    assert (own["small_decoder"], small["small_decoder"]) == (False, True)
    first = "lora/samples/step-0000.png"
    assert (tmp_path / "own" / first).read_bytes() == (tmp_path / "small" / first).read_bytes()


@pytest.mark.parametrize(
    "recipe", ["diffusion_dpo", "diffusion_ipo", "diffusion_dpo_smoothed", "diffusion_hinge", "online_dpo"]
)
def test_the_recipes_of_pairs_train_on_the_embedded_domain(
    inputs: dict[str, Path], preferences: Path, tmp_path: Path, recipe: str
) -> None:
    """At first the policy is the reference: the margin is 0, and every loss has its value there."""
    bound = {**inputs, "base_model": EMBEDDED / "pipeline", "preferences": preferences}
    metrics = run(bound, tmp_path / "lora", recipe=recipe, sample_prompts=1, warmup=0, learning_rate=1e-3)
    record = json.loads((tmp_path / "lora" / "training.json").read_text("utf-8"))
    (name,) = record["config"]["losses"]
    curves, beta = record["curves"], record["config"]["losses"][name]["beta"]
    at_start = {"diffusion_ipo": 1 / (4 * beta**2), "diffusion_hinge": 1.0}.get(recipe, math.log(2))
    assert curves[f"margin/{name}"][0] == 0
    assert curves[f"margin/{name}"][1] != 0
    untied = 1 - curves.get(f"tied/{name}", [0])[0]
    assert curves["loss/total"][0] == pytest.approx(at_start * untied)
    if name == "paired":
        assert curves["dropped/paired"] == [1, 1]
    assert metrics["unet_backwards"] == 2 * 2 * 2
    with tuned(load_pipeline(EMBEDDED / "pipeline"), tmp_path / "lora"):
        pass


SHORT: dict[str, dict[str, Any]] = {
    "refl": {"losses": {"reward_backprop": {"steps": 4, "late": [2, 3]}, "prior": {"images": 3}}},
    "alignprop": {"losses": {"reward_backprop": {"steps": 4, "late": [2, 3]}}},
    "draft_1": {"losses": {"reward_backprop": {"steps": 4, "late": [3, 3]}}},
    "draft_lv": {"losses": {"reward_backprop": {"steps": 4, "late": [3, 3]}}},
    "ddpo": {"losses": {"policy_gradient": {"steps": 3, "times_per_step": 2}}},
    "flow_grpo": {"losses": {"policy_gradient": {"steps": 3, "times_per_step": 2, "images_per_prompt": 2}}},
    "raft": {"losses": {"best_of_k": {"steps": 2, "images_per_prompt": 2}}},
    "rwr": {"losses": {"reward_weighted": {"steps": 2, "images_per_prompt": 2}}},
    "prdp": {"losses": {"reward_regression": {"steps": 3}}},
    "rebel": {"losses": {"reward_regression": {"steps": 3}}},
}


@pytest.mark.parametrize("recipe", SHORT)
def test_the_recipes_of_rewards_train_on_the_embedded_domain(
    inputs: dict[str, Path], tmp_path: Path, recipe: str
) -> None:
    """Shorter chains than the papers' for the test's sake; everything else is the recipe's own."""
    bound = {**inputs, "base_model": EMBEDDED / "pipeline"}
    settings = {"recipe": recipe, "sample_prompts": 1, "learning_rate": 1e-3, **SHORT[recipe]}
    run(bound, tmp_path / "lora", **settings)
    record = json.loads((tmp_path / "lora" / "training.json").read_text("utf-8"))
    assert list(record["config"]["rewards"]) == ["appeal"]
    assert len(record["curves"]["reward/appeal"]) == 2
    assert np.isfinite(record["curves"]["loss/total"]).all()
    before, after = _grids_of(tmp_path / "lora")
    assert (before != after).any()


def test_the_adapter_learns_faces_and_plain_diffusers_shows_them_to_it(inputs: dict[str, Path], tmp_path: Path) -> None:
    """What it writes is all that plain diffusers needs: the file, the subjects' faces, and the line on its card."""
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    base, out = EMBEDDED / "pipeline", tmp_path / "adapter"
    losses = {"reward_backprop": {}, "denoising": {}, "prior": {"images": 3}}
    trainable: dict[str, Any] = {"image_prompt": {}}
    settings = {"recipe": "id_aligner_adapter", "learning_rate": 3e-2, "trainable": trainable, "losses": losses}
    run({**inputs, "base_model": base}, out, **settings)
    record = json.loads((out / "training.json").read_text("utf-8"))
    assert record["config"]["trainable"].keys() == {"image_prompt"}
    assert {"reward/identity", "loss/denoising", "loss/prior"} <= record["curves"].keys()

    faces = load_file(out / "subjects.safetensors")
    assert faces.keys() == {"sks", "ohwx"}
    plain = StableDiffusionPipeline.from_pretrained(base, safety_checker=None, torch_dtype=torch.float32)
    plain.load_ip_adapter(str(out), subfolder="", weight_name=ADAPTER_FILE, image_encoder_folder=None)
    assert f"pipeline.load_ip_adapter('FOLDER', subfolder='', weight_name='{ADAPTER_FILE}'" in (
        out / "README.md"
    ).read_text("utf-8")

    def theirs(face: torch.Tensor) -> torch.Tensor:
        shown = torch.stack([torch.zeros_like(face), face])[:, None]  # guided away from no face
        drawn = plain(
            "a portrait of sks",
            generator=torch.Generator().manual_seed(5),
            num_inference_steps=3,
            guidance_scale=3.0,
            output_type="pt",
            ip_adapter_image_embeds=[shown],
        )
        return torch.as_tensor(drawn.images)

    ours_pipeline = load_pipeline(base)
    with tuned(ours_pipeline, out):
        shown = Subjects(faces).of(["a portrait of sks"])
        ours = generate(ours_pipeline, ["a portrait of sks"], [5], steps=3, guidance_scale=3.0, batch=1, faces=shown)
    torch.testing.assert_close(ours, theirs(faces["sks"]), atol=1e-5, rtol=0)
    assert (theirs(faces["sks"]) - theirs(faces["ohwx"])).abs().max() > 1e-3


def test_an_adapter_for_another_pack_says_so_before_it_trains(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"embedding is 77, but the face pack's"):
        run(inputs, tmp_path / "lora", recipe="id_aligner_adapter", trainable={"image_prompt": {"embedding": 77}})
    assert not (tmp_path / "lora").exists()


def _grids_of(lora: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(file)) for file in sorted((lora / "samples").glob("*.png"))]


def test_pairs_that_are_not_bound_are_asked_for(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="preference pairs") as caught:
        run(inputs, tmp_path / "lora", recipe="diffusion_dpo")
    assert "mine_preferences" in caught.value.remedy


def test_the_real_recogniser_tells_the_subjects_apart(inputs: dict[str, Path]) -> None:
    assets = RewardAssets(inputs["reward"], inputs["encoder"], PACK, det_size=64)
    reward: Any = REWARDS.get("identity")(assets)
    assert (reward.best, reward.needs_references, reward.zero_means_missed) == (1.0, True, True)
    rows = read_rows(inputs["references"], ["image", "subject"])
    subjects = [row["subject"] for row in rows]
    means = mean_embeddings(reward, image_tensor(rows, 64), subjects)
    first, second = means.values()
    assert first.norm().item() == pytest.approx(1, abs=1e-5)
    keypoints, found = reward.find(image_tensor(rows, 64))
    assert found.any()
    own = reward.embedder.embed(image_tensor(rows, 64), keypoints)[found]
    mine = torch.stack([means[s] for s, seen in zip(subjects, found.tolist(), strict=True) if seen])
    assert (own * mine).sum(1).min() > 0.5 > float(first @ second)


def test_a_subject_without_a_face_is_named(inputs: dict[str, Path], tmp_path: Path) -> None:
    grey = encode_png(np.full((64, 64, 3), 128, np.uint8))
    blank = [{"image": grey, "subject": "nobody", "token": "sks", "caption": "a portrait of sks"}]
    write_shards(tmp_path / "blank", blank)
    with pytest.raises(InputError, match="nobody"):
        run({**inputs, "references": tmp_path / "blank"}, tmp_path / "lora", recipe="identity_only")
    assert not (tmp_path / "lora").exists()


def test_draw_rows_depend_on_the_seed_alone() -> None:
    rows = [{"caption": str(i)} for i in range(20)]
    assert draw_rows(rows, 5, 1) == draw_rows(rows, 5, 1) != draw_rows(rows, 5, 2)
    assert draw_rows(rows, 50, 1) == rows
