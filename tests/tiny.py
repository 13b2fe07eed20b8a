"""Random pipelines and encoders of the real shapes' kind, small enough to sample in a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

TOKENS = 77
FAMILIES = ("sd15_folder", "sdxl_folder", "inpaint_folder", "sd3_folder", "flux_folder")  # fixtures, one a family
BETAS: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def tiny_tokenizer() -> CLIPTokenizer:
    """Byte-level: every letter is a token, so any prompt encodes."""
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=TOKENS)


def _text_config(tokenizer: CLIPTokenizer, width: int = 32) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _t5(width: int) -> tuple[T5EncoderModel, T5Tokenizer]:
    """An encoder of the size of a thimble, and a tokenizer to which every letter is a token."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    tokenizer = T5Tokenizer(vocab=[*special, *((chr(code), -3.0) for code in range(33, 127))], extra_ids=0)
    config = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=width, num_layers=1, num_heads=2)
    return T5EncoderModel(config), tokenizer


def _vae(latent_channels: int = 4, **overrides: Any) -> AutoencoderKL:
    """64 x 64 x 3 to 16 x 16 x C."""
    return AutoencoderKL(
        latent_channels=latent_channels,
        sample_size=64,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        **overrides,
    )


def tiny_decoder(folder: Path, channels: int = 4, seed: int = 0) -> Path:
    """A random AutoencoderTiny (TAESD's class) for 16 x 16 x C to 64 x 64 x 3, saved at ``folder``."""
    torch.manual_seed(seed)
    widths = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    depths = {"num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 1, 1)}
    AutoencoderTiny(latent_channels=channels, **widths, **depths).save_pretrained(folder, safe_serialization=True)
    return folder


def _flow_vae() -> AutoencoderKL:
    """As the rectified flows have it: more channels, a shift, and no convolutions around the latents."""
    return _vae(8, scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False)


def _unet(**overrides: Any) -> UNet2DConditionModel:
    settings: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**settings | overrides)


def ddim(prediction_type: str = "v_prediction") -> DDIMScheduler:
    """The embedded scheduler for v and x0 prediction; Stable Diffusion 1.5's noise schedule for epsilon."""
    if prediction_type == "epsilon":
        return DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return DDIMScheduler(
        **BETAS,
        clip_sample=False,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def tiny_sd15(folder: Path, prediction_type: str = "v_prediction", seed: int = 0, size: int = 16) -> Path:
    """A random StableDiffusionPipeline of the embedded shapes, with latents of ``size``, saved at ``folder``."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)),
        tokenizer=tokenizer,
        unet=_unet(sample_size=size),
        scheduler=ddim(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_sdxl(folder: Path, seed: int = 0) -> Path:
    """A random StableDiffusionXLPipeline (two text encoders, text_time embedding, Euler), saved at ``folder``."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    unet = _unet(
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + 32,
        cross_attention_dim=64,
        transformer_layers_per_block=(1, 2),
    )
    StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer)),
        tokenizer=tokenizer,
        tokenizer_2=tiny_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_inpaint(folder: Path, seed: int = 0) -> Path:
    """A random StableDiffusionInpaintPipeline, whose UNet sees a mask and a masked picture, saved at ``folder``."""
    torch.manual_seed(seed)
    tokenizer, vae = tiny_tokenizer(), _vae()
    with torch.no_grad():  # A trained VAE is nearly deterministic: its posterior's deviation is small.
        vae.quant_conv.bias[4:].fill_(-30)
    StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(_text_config(tokenizer)),
        tokenizer=tokenizer,
        unet=_unet(in_channels=9),
        scheduler=ddim("epsilon"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_sd3(folder: Path, seed: int = 0, size: int = 16) -> Path:
    """A random StableDiffusion3Pipeline of version 3.5's kind (dual attention, normed queries), saved at ``folder``,
    with latents of ``size``."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    t5, t5_tokenizer = _t5(64)
    transformer = SD3Transformer2DModel(
        sample_size=size,
        in_channels=8,
        out_channels=8,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        pos_embed_max_size=12,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_flow_vae(),
        text_encoder=CLIPTextModelWithProjection(_text_config(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer)),
        tokenizer_2=tiny_tokenizer(),
        text_encoder_3=t5,
        tokenizer_3=t5_tokenizer,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_flux(folder: Path, seed: int = 0) -> Path:
    """A random FluxPipeline of the guidance-distilled kind, its times shifted by resolution, saved at ``folder``."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    t5, t5_tokenizer = _t5(32)
    transformer = FluxTransformer2DModel(
        in_channels=32,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    FluxPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_flow_vae(),
        text_encoder=CLIPTextModel(_text_config(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=t5,
        tokenizer_2=t5_tokenizer,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_clip(folder: Path, seed: int = 0) -> Path:
    """A random CLIPModel for 64-pixel images (projection_dim 64) with its tokenizer, saved at ``folder``."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    text = _text_config(tokenizer).to_dict()
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 16,
        "projection_dim": 64,
    }
    config = CLIPConfig(text_config=text | {"projection_dim": 64}, vision_config=vision, projection_dim=64)
    CLIPModel(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder
