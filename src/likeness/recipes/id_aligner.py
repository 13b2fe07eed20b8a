"""ID-Aligner: identity and aesthetic rewards, backpropagated through one late denoising step."""

from __future__ import annotations

from dataclasses import replace

from likeness.core.paper import Paper
from likeness.training.plan import Recipe, add_recipe

_MISSED = "a face that is not detected is reward 0 and stays in the mean; the paper does not say what it does"
_WORDS = "rewards are told the prompt with 'a' for the subject's token, which their encoders never learnt"
ID_ALIGNER = Paper(
    title="ID-Aligner: Enhancing Identity-Preserving Text-to-Image Generation with Reward Feedback Learning",
    arxiv="2404.15449",
    equations=(
        "eq. 2-4, 7: R_sim = cos(FaceEnc(FaceDet(x0')), mean embedding of the references); L_sim = 1 - R_sim",
        "eq. 5: Bradley-Terry preference model for R_appeal and R_struct (step train_reward)",
        "eq. 6, 8: R_aes = R_appeal + R_struct; L_aes = -R_aes",
        "eq. 9: L = alpha_1 L_sim + alpha_2 L_aes with alpha_1 = 0.2, alpha_2 = 0.001",
        "algorithm 2: the denoising loss is added for LoRA",
    ),
    deviations=(
        _MISSED,
        _WORDS,
        "the LoRA is on the U-Net only, at the paper's rate for it (5e-5); the text encoder (1e-4) stays frozen",
        "rollout of 4 DDIM steps with the gradient at one of the last 2; the paper gives no T, T1, T2 for LoRA",
        "the batch size of the LoRA runs is not given in the paper; 8 here",
    ),
)

RECIPE = add_recipe(
    Recipe(
        name="id_aligner_lora",
        paper=ID_ALIGNER,
        status="smoke-tested",
        summary="identity and aesthetic reward feedback on top of the denoising loss",
        settings={
            "steps": 2000,
            "learning_rate": 5e-5,
            "rewards": {"identity": 0.2, "appeal": 0.001, "structure": 0.001},
            "losses": {"reward_backprop": {}, "denoising": {}},
        },
    ),
    __name__,
)

ADAPTER = add_recipe(
    Recipe(
        name="id_aligner_adapter",
        paper=replace(
            ID_ALIGNER,
            equations=(
                *ID_ALIGNER.equations[:4],
                "algorithm 1: the rewards alone train the image-prompt adapter",
                "IP-Adapter (2308.06721) eq. 5, 8: Z = Attention(Q, K, V) + lambda Attention(Q, K', V')",
            ),
            deviations=(
                "the adapter starts as the base model; the paper's starts from IP-Adapter-FaceID-plusv2",
                "so denoising of references and of other people is added: without it no face would be drawn from it",
                "its tokens come from the face embedding alone, without plusv2's CLIP features and LoRA",
                "prompts are of the subjects, each shown as its mean embedding; the paper's are of 200,000 faces",
                _MISSED,
                _WORDS,
                "rollout of 4 DDIM steps with the gradient at one of the last 2; the paper gives no T, T1, T2",
            ),
        ),
        status="smoke-tested",
        summary="the same rewards on an adapter that is shown a face embedding beside the prompt",
        settings={
            "steps": 10_000,
            "batch": 32,
            "learning_rate": 1e-6,
            "trainable": {"image_prompt": {}},
            "rewards": {"identity": 0.2, "appeal": 0.001, "structure": 0.001},
            "losses": {"reward_backprop": {}, "denoising": {}, "prior": {"images": 2048}},
        },
    ),
    __name__,
)
