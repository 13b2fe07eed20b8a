"""Reward backpropagation without an identity: its settings of start, truncation and sharing, paper by paper.

Their rewards are general preference models; here the learnt appeal stands in, and a params file names others.
"""

from __future__ import annotations

from likeness.core.paper import Paper
from likeness.training.plan import Recipe, add_recipe

_APPEAL = {"appeal": 1.0}
_REWARD = "the reward is the appeal head of the same pipeline, not ImageReward, HPS or an aesthetic score"
_LORA = "a LoRA of rank 8 at 1e-4"

add_recipe(
    Recipe(
        name="refl",
        paper=Paper(
            title="ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation",
            arxiv="2304.05977",
            equations=(
                "algorithm 1: denoise without gradient to a step drawn from [30, 39] of 40, predict x0, L = phi(r)",
                "eq. 4: the pre-training loss is added with its own weight",
            ),
            deviations=(
                _REWARD,
                _LORA + "; the code tunes the whole U-Net at 1e-5",
                "phi is the identity, where the code has relu(2 - r): the reward here is centred at 0",
                "the pre-training loss, absent from the public script (zai-org/ImageReward issue 95), is the prior on "
                "other people's pictures",
            ),
        ),
        status="smoke-tested",
        summary="reward feedback through one late denoising step, with the pre-training loss as anchor",
        settings={
            "steps": 1000,
            "learning_rate": 1e-4,
            "rewards": _APPEAL,
            "losses": {"reward_backprop": {"weight": 1e-3, "steps": 40, "late": (30, 39)}, "prior": {}},
        },
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="alignprop",
        paper=Paper(
            title="Aligning Text-to-Image Diffusion Models with Reward Backpropagation",
            arxiv="2310.03739",
            equations=(
                "section 4: the gradient through the last K denoising steps, K drawn uniformly for each sample",
            ),
            deviations=(
                _REWARD,
                _LORA,
                "without classifier-free guidance in training, where the paper samples with 7.5",
                "10 steps and K uniform in 1..10; the code has 50, and beside U(0, 50) a normal about step 42",
            ),
        ),
        status="smoke-tested",
        summary="the reward's gradient through a random number of last denoising steps",
        settings={
            "steps": 500,
            "learning_rate": 1e-4,
            "gradient_checkpointing": True,
            "rewards": _APPEAL,
            "losses": {"reward_backprop": {"steps": 10, "late": (0, 9), "through": "sample"}},
        },
    ),
    __name__,
)

_DRAFT = "Directly Fine-Tuning Diffusion Models on Differentiable Rewards"

add_recipe(
    Recipe(
        name="draft_1",
        paper=Paper(
            title=_DRAFT,
            arxiv="2309.17400",
            equations=("section 4.2: DRaFT-K with K = 1, the gradient through the last denoising step alone",),
            deviations=(_REWARD, _LORA, "10 DDIM steps, where the paper has 50"),
        ),
        status="smoke-tested",
        summary="the reward's gradient through the last denoising step",
        settings={
            "steps": 2000,
            "learning_rate": 1e-4,
            "rewards": _APPEAL,
            "losses": {"reward_backprop": {"steps": 10, "late": (9, 9), "through": "sample"}},
        },
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="draft_lv",
        paper=Paper(
            title=_DRAFT,
            arxiv="2309.17400",
            equations=("section 4.3: the finished picture is noised again n times and the n gradients are averaged",),
            deviations=(_REWARD, _LORA, "10 DDIM steps, where the paper has 50; n = 2"),
        ),
        status="smoke-tested",
        summary="DRaFT-1 with a gradient of lower variance for the same rollout",
        settings={
            "steps": 2000,
            "learning_rate": 1e-4,
            "rewards": _APPEAL,
            "losses": {"reward_backprop": {"steps": 10, "late": (9, 9), "share": 2, "spread": "renoise"}},
        },
    ),
    __name__,
)
