"""One battery for all families: the library's own loop draws the pipeline's pictures, and every family learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel, StableDiffusionImg2ImgPipeline

from likeness.core.errors import InputError
from likeness.models.families import (
    FLUX_GUIDANCE,
    Conditioning,
    encode_prompts,
    family_of,
    image_size,
    inpainting_channels,
    latent_shape,
    network_of,
)
from likeness.models.generator import decode_latents, encode_moments, generate, load_pipeline
from likeness.models.policy import Policy, make_policy, tuned
from likeness.training.algorithm import Algorithm, Slots
from likeness.training.plan import TrainerConfig
from likeness.training.trainer import Trainer
from tiny import FAMILIES
from tiny_pairs import red_pairs, toy_online, toy_paired
from tiny_rounds import policy_gradient, regression, selected
from tiny_training import PROMPTS, disturb, frozen, policy_of, read, run_step, toy_denoising, toy_reward

SAMPLING: dict[str, Any] = {"steps": 2, "guidance_scale": 2.0, "batch": 3}


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def noise(pipeline: Any, count: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *latent_shape(pipeline), generator=torch.Generator().manual_seed(seed))


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def draw(policy: Policy, x_t: torch.Tensor, conditioning: Conditioning, steps: int = 4) -> torch.Tensor:
    """A picture by the library's parts alone."""
    with torch.no_grad():
        for step in policy.path.chain(steps):
            t, t_next = (policy.path.times([value] * len(x_t)) for value in step)
            x_t = policy.path.transition(policy.predict(x_t, t, conditioning), x_t, t, t_next).mean
        return policy.decode(x_t)


def pipelines_own(pipeline: Any, x_t: torch.Tensor, steps: int = 4, **settings: Any) -> torch.Tensor:
    """The picture of the pipeline's call without guidance, or with the guidance that Flux is told."""
    given: dict[str, Any] = {"latents": x_t, "guidance_scale": 1.0}
    if isinstance(pipeline, FluxPipeline):
        given = {"latents": FluxPipeline._pack_latents(x_t, *x_t.shape), "guidance_scale": FLUX_GUIDANCE}
    given |= {**family_of(pipeline).sample(pipeline, len(x_t)), **settings}
    return pipeline(PROMPTS[: len(x_t)], num_inference_steps=steps, output_type="pt", **given).images


@pytest.mark.parametrize("steps", [2, 5])
def test_the_librarys_loop_draws_the_pipelines_own_picture(folder: Path, steps: int) -> None:
    policy = make_policy(load_pipeline(folder), {}, 0)
    x_t = noise(policy.pipeline)
    ours = draw(policy, x_t, encode_prompts(policy.pipeline, PROMPTS), steps)
    torch.testing.assert_close(ours, pipelines_own(policy.pipeline, x_t, steps), atol=1e-4, rtol=0)
    assert (ours[0] - ours[1]).abs().max() > 1e-2


def test_sizes_are_those_of_the_pictures(folder: Path) -> None:
    pipeline = load_pipeline(folder)
    channels = 8 if family_of(pipeline).network == "transformer" else 4
    assert latent_shape(pipeline) == (channels, 16, 16)
    assert image_size(pipeline) == 64
    assert generate(pipeline, PROMPTS[:1], [0], steps=1, guidance_scale=1.0, batch=1).shape == (1, 3, 64, 64)
    means, deviations = encode_moments(pipeline, pictures(2))
    assert means.shape == deviations.shape == (2, channels, 16, 16)


def test_moments_are_scaled_as_the_network_takes_them_and_decode_to_the_vaes_own_reconstruction(folder: Path) -> None:
    pipeline, images = load_pipeline(folder), pictures(3)
    means, deviations = encode_moments(pipeline, images, batch=2)
    config = pipeline.vae.config
    shift = config.shift_factor or 0.0
    with torch.no_grad():
        posterior = pipeline.vae.encode(images * 2 - 1).latent_dist
        own = (pipeline.vae.decode(posterior.mean).sample / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(decode_latents(pipeline, means), own, atol=1e-5, rtol=0)
    sample = posterior.sample(torch.Generator().manual_seed(4))
    unit = torch.randn(means.shape, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(means + deviations * unit, (sample - shift) * config.scaling_factor, atol=1e-5, rtol=0)


def test_a_sample_depends_on_its_seed_alone_and_not_on_its_batch(folder: Path) -> None:
    pipeline = load_pipeline(folder)
    together = generate(pipeline, PROMPTS, [3, 4, 5], **SAMPLING)
    apart = generate(pipeline, PROMPTS, [3, 4, 5], **SAMPLING | {"batch": 1})
    assert together.shape == (3, 3, 64, 64)
    assert together.dtype == torch.float32
    assert 0 <= together.min() < together.max() <= 1
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=0)
    assert not torch.allclose(together[0], generate(pipeline, PROMPTS[:1], [9], **SAMPLING)[0], atol=1e-2)


def test_rows_of_conditioning_are_independent_and_can_be_picked(folder: Path) -> None:
    """Encoded in batches of two, and predicted for a part in another order: what the whole gives."""
    policy = make_policy(load_pipeline(folder), {}, 0)
    conditioning = encode_prompts(policy.pipeline, PROMPTS, batch=2)
    x_t, t = noise(policy.pipeline), policy.path.times([900, 500, 20])
    with torch.no_grad():
        whole = policy.predict(x_t, t, conditioning)
        order = torch.tensor([2, 0])
        part = policy.predict(x_t[order], t[order], conditioning.take(order))
    torch.testing.assert_close(part, whole[order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"text_rank": 2}, {"dora": True}], ids=["network", "text", "dora"])
def test_a_lora_is_nothing_at_first_and_can_be_switched_off_saved_and_loaded(
    folder: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    base = load_pipeline(folder)
    plain = generate(base, PROMPTS, [1, 2, 3], **SAMPLING)
    policy = policy_of(folder, **settings)
    parts = {name.partition(".")[0] for name in policy.trainable()}
    assert parts >= {family_of(base).network}
    assert ("text_encoder" in parts) == ("text_rank" in settings)
    torch.testing.assert_close(generate(policy.pipeline, PROMPTS, [1, 2, 3], **SAMPLING), plain, atol=1e-6, rtol=0)
    disturb(policy)
    trained = generate(policy.pipeline, PROMPTS, [1, 2, 3], **SAMPLING)
    assert (trained - plain).abs().max() > 1e-2
    with policy.reference():
        torch.testing.assert_close(generate(policy.pipeline, PROMPTS, [1, 2, 3], **SAMPLING), plain, atol=1e-6, rtol=0)
    policy.save(tmp_path)
    with tuned(base, tmp_path):
        torch.testing.assert_close(generate(base, PROMPTS, [1, 2, 3], **SAMPLING), trained, atol=1e-5, rtol=0)
    torch.testing.assert_close(generate(base, PROMPTS, [1, 2, 3], **SAMPLING), plain, rtol=0, atol=0)


@pytest.mark.parametrize(
    "folder",
    [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES],
    indirect=True,
)
def test_a_toy_reward_rises_in_thirty_steps_and_what_is_frozen_stays(folder: Path, tmp_path: Path) -> None:
    policy = policy_of(folder)
    algorithm = toy_reward(policy)
    probe = [Slots(11, 0, 8 * i, 8) for i in range(2)]

    def measure() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([run_step(algorithm, policy, slots).metrics["reward/red"] for slots in probe])

    before, kept = measure(), frozen(policy)
    config = TrainerConfig(steps=30, batch=4, learning_rate=3e-2, weight_decay=0)
    history = Trainer(policy, algorithm, config, 0, tmp_path).run()
    gain = measure() - before  # at equal noise and equal prompts
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    assert (gain > 0).float().mean() > 0.9
    assert len(history.curves["reward/red"]) == 30
    after = frozen(policy)
    assert after.keys() == kept.keys()
    assert len(kept) > len(policy.trainable())
    assert all(torch.equal(after[name], kept[name]) for name in kept)
    with policy.reference():
        torch.testing.assert_close(measure(), before, atol=1e-5, rtol=0)


ALGORITHMS: dict[str, Callable[[Policy], Algorithm]] = {
    "policy gradient": lambda policy: policy_gradient(
        policy, steps=3, times_per_step=1, images_per_prompt=2, advantage="group", eta=0.7
    ),
    "reward regression": lambda policy: regression(policy, steps=2, updates=2),
    "best of k": lambda policy: selected(policy, "best_of_k", steps=2, images_per_prompt=2),
    "pairs": lambda policy: toy_paired(policy, red_pairs(policy, 4), batch=2),
    "online pairs": lambda policy: toy_online(policy, samples=2),
    "denoising": toy_denoising,
}


@pytest.mark.parametrize("name", [n if n == "pairs" else pytest.param(n, marks=pytest.mark.slow) for n in ALGORITHMS])
def test_every_algorithm_trains_every_family(folder: Path, tmp_path: Path, name: str) -> None:
    """One code path: the same builders, a round and a part of the next; what is read moves, and nothing else does."""
    policy = policy_of(folder)
    kept, trained = frozen(policy), {n: p.clone() for n, p in policy.trainable().items()}
    config = TrainerConfig(steps=4, batch=2, learning_rate=1e-2, weight_decay=0)
    history = Trainer(policy, ALGORITHMS[name](policy), config, 0, tmp_path).run()
    assert all(np.isfinite(curve).all() for curve in history.curves.values())
    assert {n for n, p in policy.trainable().items() if not torch.equal(trained[n], p)} == read(policy)
    after = frozen(policy)
    assert all(torch.equal(after[n], kept[n]) for n in kept)


def masks(count: int) -> torch.Tensor:
    """The left half to be filled in, by a mask with soft values as a blurred one has."""
    soft = torch.zeros(count, 1, 64, 64)
    soft[..., :32], soft[..., 32:40] = 0.8, 0.3
    return soft


def test_inpainting_channels_are_those_that_the_pipeline_prepares(inpaint_folder: Path) -> None:
    """But for the posterior: of it the pipeline draws a sample, with noise that we know."""
    pipeline, images = load_pipeline(inpaint_folder), pictures(2)
    pipeline.vae.quant_conv.bias[4:].fill_(-2.0)  # a posterior wide enough to be seen
    mask = pipeline.mask_processor.preprocess(masks(2), height=64, width=64)
    visible = pipeline.image_processor.preprocess(images, height=64, width=64) * (mask < 0.5)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        shrunk, latents = pipeline.prepare_mask_latents(
            mask, visible, 2, 64, 64, torch.float32, "cpu", generator, do_classifier_free_guidance=False
        )
        deviation = pipeline.vae.encode(visible).latent_dist.std * pipeline.vae.config.scaling_factor
    unit = torch.randn(latents.shape, generator=torch.Generator().manual_seed(6))
    ours = inpainting_channels(pipeline, images, masks(2))
    torch.testing.assert_close(ours[:, :1], shrunk)
    assert shrunk.mean() == 0.5
    assert (deviation * unit).abs().max() > 0.01
    torch.testing.assert_close(ours[:, 1:] + deviation * unit, latents, atol=1e-5, rtol=0)


def test_what_is_not_masked_matters_and_what_is_masked_does_not(inpaint_folder: Path) -> None:
    policy = make_policy(load_pipeline(inpaint_folder), {}, 0)
    x_t, conditioning = noise(policy.pipeline, 2), encode_prompts(policy.pipeline, PROMPTS[:2])

    def filled(images: torch.Tensor) -> torch.Tensor:
        return draw(policy, x_t, conditioning.plus(channels=inpainting_channels(policy.pipeline, images, masks(2))))

    images = pictures(2)
    changed_left, changed_right = images.clone(), images.clone()
    changed_left[..., :32], changed_right[..., 32:] = 0.0, 0.0
    ours = filled(images)
    theirs = pipelines_own(policy.pipeline, x_t, image=images, mask_image=masks(2))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(filled(changed_left), ours, atol=1e-6, rtol=0)
    assert (filled(changed_right) - ours).abs().max() > 1e-2
    assert (draw(policy, x_t, conditioning) - ours).abs().max() > 1e-2


def test_flux_without_guidance_embedding_is_told_no_guidance(flux_folder: Path) -> None:
    """As the timestep-distilled Flux is."""
    pipeline = load_pipeline(flux_folder)
    torch.manual_seed(0)
    pipeline.transformer = FluxTransformer2DModel.from_config({**pipeline.transformer.config, "guidance_embeds": False})
    policy = make_policy(pipeline, {}, 0)
    x_t = noise(pipeline)
    ours = draw(policy, x_t, encode_prompts(pipeline, PROMPTS))
    torch.testing.assert_close(ours, pipelines_own(pipeline, x_t), atol=1e-4, rtol=0)


def test_sd3_with_a_shift_by_resolution_draws_the_pipelines_own_picture(sd3_folder: Path) -> None:
    pipeline = load_pipeline(sd3_folder)
    pipeline.scheduler = type(pipeline.scheduler)(use_dynamic_shifting=True)
    policy = make_policy(pipeline, {}, 0)
    x_t = noise(pipeline)
    ours = draw(policy, x_t, encode_prompts(pipeline, PROMPTS))
    torch.testing.assert_close(ours, pipelines_own(pipeline, x_t), atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["sd3_folder", "flux_folder"])
def test_latents_that_cannot_be_cut_into_patches_are_refused(family: str, request: pytest.FixtureRequest) -> None:
    pipeline = load_pipeline(request.getfixturevalue(family))
    conditioning = encode_prompts(pipeline, PROMPTS[:1])
    with pytest.raises(InputError, match="15 x 16"):
        family_of(pipeline).call(network_of(pipeline), torch.zeros(1, 8, 15, 16), torch.tensor([500.0]), conditioning)


def test_a_pipeline_of_an_unknown_class_is_refused_by_name(sd15_folder: Path) -> None:
    pipeline = StableDiffusionImg2ImgPipeline.from_pipe(load_pipeline(sd15_folder))
    with pytest.raises(InputError, match="StableDiffusionImg2ImgPipeline") as refusal:
        make_policy(pipeline, {}, 0)
    assert "did you mean" in str(refusal.value)
