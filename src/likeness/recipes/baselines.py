"""Controls: the denoising loss alone, and a deliberately bad reward run that a gate must refuse."""

from __future__ import annotations

from likeness.core.paper import Paper
from likeness.training.plan import Recipe, add_recipe

DENOISING_LORA = add_recipe(
    Recipe(
        name="denoising_lora",
        paper=Paper(
            title="LoRA: Low-Rank Adaptation of Large Language Models",
            arxiv="2106.09685",
            equations=("eq. 3: h = W0 x + (alpha / r) B A x",),
            deviations=("applied to the U-Net's attention projections, with DreamBooth's captions (2208.12242)",),
        ),
        status="smoke-tested",
        summary="the same LoRA trained with the denoising loss alone: the baseline of every reward recipe",
        settings={"steps": 2000, "learning_rate": 5e-5, "losses": {"denoising": {}}},
    ),
    __name__,
)

IDENTITY_ONLY = add_recipe(
    Recipe(
        name="identity_only",
        paper=None,
        status="smoke-tested",
        summary="planted bad model: the identity reward alone, no anchor, a high rate, many steps",
        settings={
            "steps": 4000,
            "learning_rate": 2e-3,
            "weight_decay": 0.0,
            "rewards": {"identity": 1.0},
            "losses": {"reward_backprop": {}},
        },
    ),
    __name__,
)
