"""Train the embedded generator: a StableDiffusionPipeline of 4.4 M parameters on the portraits' latents.

UNet and CLIP text encoder are trained jointly; v-prediction with zero terminal SNR (Lin et al., 2305.08891) and
trailing spacing, so that four DDIM steps are enough.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from likeness.core.config import Config
from likeness.models.embedded.fit import FitConfig, fit
from likeness.models.embedded.portraits import FACTORS, IDENTITY, Portrait, caption
from likeness.models.embedded.vae import load_vae

if TYPE_CHECKING:
    import numpy as np
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from torch import Tensor
    from transformers import CLIPTextModel, CLIPTokenizer

    from likeness.models.embedded.corpus import Corpus

MAX_TOKENS = 32
TEXT_WIDTH = 128


class GeneratorConfig(Config):
    """``drop_caption``: share of empty captions (for guidance); ``drop_identity``: captions without identity words;
    ``drop_phrase``: chance of each remaining factor to be left out."""

    seed: int = 0
    batch: int = 16
    drop_caption: float = 0.1
    drop_identity: float = 0.25
    drop_phrase: float = 0.1
    fit: FitConfig = FitConfig(steps=8600, learning_rate=1e-3, ema=0.998)


def train_tokenizer(corpus: Corpus, samples: int = 4000) -> CLIPTokenizer:
    """A CLIP byte-level BPE in which the captions' words are single tokens and any other word still encodes."""
    from tokenizers import pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = CLIPTokenizer(vocab={s: i for i, s in enumerate(special)}, merges=[]).backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=special,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    backend.train_from_iterator((caption(corpus.portrait(i)) for i in range(min(samples, len(corpus)))), trainer)
    model = json.loads(backend.to_str())["model"]
    vocab = dict(model["vocab"])
    for letter in alphabet:  # a rare word may end in any byte
        vocab.setdefault(f"{letter}</w>", len(vocab))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=[tuple(m.split(" ")) for m in merges], model_max_length=MAX_TOKENS)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder: 2 layers of width 128, 32 tokens."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet() -> UNet2DConditionModel:
    """An untrained UNet of 4.0 M parameters on 16x16x4 latents."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers' name for the NUMBER of heads here
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """DDIM, v-prediction, zero terminal SNR, trailing spacing."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def training_caption(portrait: Portrait, config: GeneratorConfig, rng: np.random.Generator) -> str:
    """The caption of one training sample, with phrases dropped at random."""
    if rng.random() < config.drop_caption:
        return ""
    without_identity = rng.random() < config.drop_identity
    kept = [
        name for name in FACTORS if not (without_identity and name in IDENTITY) and rng.random() >= config.drop_phrase
    ]
    return caption(portrait, kept)


def encode_corpus(vae: AutoencoderKL, corpus: Corpus, batch: int = 64) -> Tensor:
    """Scaled latent means of every picture: (N, 4, 16, 16) float16."""
    import numpy as np
    import torch
    from tqdm import tqdm

    vae = vae.to(memory_format=torch.channels_last)
    out = []
    with torch.no_grad():
        for start in tqdm(range(0, len(corpus), batch), desc="encode", mininterval=5.0):
            pixels = torch.from_numpy(np.asarray(corpus.images[start : start + batch])).permute(0, 3, 1, 2)
            latents = vae.encode(pixels.float() / 127.5 - 1).latent_dist.mode() * vae.config.scaling_factor
            out.append(latents.half())
    return torch.cat(out)


def train_generator(
    config: GeneratorConfig, corpus: Corpus, vae_folder: Path, out: Path, checkpoint_every: int = 0
) -> dict[str, float]:
    """Train UNet and text encoder, save the whole pipeline in fp16 safetensors at ``out``. Returns metrics."""
    import numpy as np
    import torch

    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    vae = load_vae(vae_folder)
    latents = encode_corpus(vae, corpus)
    tokenizer = train_tokenizer(corpus)
    text, unet, scheduler = build_text_encoder(tokenizer), build_unet(), build_scheduler()
    unet = unet.to(memory_format=torch.channels_last)
    alphas = scheduler.alphas_cumprod

    def loss_at(step: int) -> Tensor:
        index = rng.integers(len(corpus), size=config.batch)
        captions = [training_caption(corpus.portrait(int(i)), config, rng) for i in index]
        ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        x0 = latents[torch.from_numpy(index)].float()
        epsilon = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))
        t = torch.from_numpy(rng.integers(len(alphas), size=config.batch))
        a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        prediction = unet(a * x0 + s * epsilon, t, text(ids).last_hidden_state).sample
        loss: Tensor = (prediction - (a * epsilon - s * x0)).square().mean()
        return loss

    def save(step: int) -> None:
        if checkpoint_every and step % checkpoint_every == checkpoint_every - 1:
            _save(out.with_name(out.name + "-checkpoint"), vae, text, tokenizer, unet, scheduler)

    loss = fit([unet, text], loss_at, config.fit, "generator", save)
    _save(out, vae, text, tokenizer, unet, scheduler)
    return {"loss": loss, "parameters": sum(p.numel() for m in (unet, text) for p in m.parameters())}


def _save(
    out: Path,
    vae: AutoencoderKL,
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
) -> None:
    import copy

    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=copy.deepcopy(vae).half(),
        text_encoder=copy.deepcopy(text).half(),
        tokenizer=tokenizer,
        unet=copy.deepcopy(unet).half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out, safe_serialization=True)
