"""Learning from preference pairs: one algorithm, its losses, and pairs that are given or drawn on the way."""

from __future__ import annotations

from likeness.core.paper import Paper
from likeness.training.plan import Recipe, add_recipe

_MARGIN = "2311.12908, eq. 14: m = -(err_w - err_w_ref) + (err_l - err_l_ref), the pair's t and eps shared"
_LORA = "a LoRA of rank 8 at diffusers' rate for it (1e-5), where the paper tunes the whole U-Net"
_LANGUAGE = "the paper aligns language models; the denoising error stands in for the log-likelihood, as in 2311.12908"
_BETA = "beta is per entry-averaged error, 2500 as for Diffusion-DPO; the paper's own beta is on another scale"
_SETTINGS = {"steps": 2000, "warmup": 500, "learning_rate": 1e-5}

add_recipe(
    Recipe(
        name="diffusion_dpo",
        paper=Paper(
            title="Diffusion Model Alignment Using Direct Preference Optimization",
            arxiv="2311.12908",
            equations=("eq. 14: L = -log sigma(beta m), beta = beta T omega d with omega constant", _MARGIN),
            deviations=(
                "beta 2500: the 5000 of the authors' launcher (SD1.5), whose loss has a factor 1/2",
                "8 pairs a step where the paper has 2048: the steps and the warm-up are the launcher's",
                _LORA,
            ),
        ),
        status="smoke-tested",
        summary="direct preference optimisation of the denoising error on the mined pairs",
        settings={**_SETTINGS, "losses": {"paired": {}}},
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="diffusion_ipo",
        paper=Paper(
            title="A General Theoretical Paradigm to Understand Learning from Human Preferences",
            arxiv="2310.12036",
            equations=("eq. 17: L = (m - 1 / (2 beta))^2", _MARGIN),
            deviations=(_LANGUAGE, _BETA, _LORA),
        ),
        status="smoke-tested",
        summary="the pairs' margin is led to a set value, so that unanimous votes do not drive it on for ever",
        settings={**_SETTINGS, "losses": {"paired": {"loss": "squared"}}},
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="diffusion_dpo_smoothed",
        paper=Paper(
            title="Provably Robust DPO: Aligning Language Models with Noisy Feedback",
            arxiv="2403.00409",
            equations=(
                "L = -(1 - e) log sigma(beta m) - e log sigma(-beta m), the conservative DPO it compares itself with",
                _MARGIN,
            ),
            deviations=(
                "the conservative loss (Mitchell, A note on DPO with noisy preferences, 2023, eq. 3), not the paper's "
                "unbiased one, which divides by 1 - 2 e and has no lower bound",
                "e = 0.1, the start that the note's author suggests",
                _LANGUAGE,
                _BETA,
                _LORA,
            ),
        ),
        status="smoke-tested",
        summary="direct preference optimisation that expects a tenth of the votes to be turned round",
        settings={**_SETTINGS, "losses": {"paired": {"smoothing": 0.1}}},
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="diffusion_hinge",
        paper=Paper(
            title="SLiC-HF: Sequence Likelihood Calibration with Human Feedback",
            arxiv="2305.10425",
            equations=("L = max(0, 1 - beta m), the calibration loss with margin 1 / beta", _MARGIN),
            deviations=(
                "the margin is to the reference model (hinge-norm of RSO, 2309.06657), which also takes the place of "
                "the paper's cross-entropy regulariser",
                _LANGUAGE,
                _BETA,
                _LORA,
            ),
        ),
        status="smoke-tested",
        summary="pairs stop to count once the policy orders them by a set margin",
        settings={**_SETTINGS, "losses": {"paired": {"loss": "hinge"}}},
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="online_dpo",
        paper=Paper(
            title="Direct Language Model Alignment from Online AI Feedback",
            arxiv="2402.04792",
            equations=("algorithm 1: draw from the policy, let the annotator order, step on the pair", _MARGIN),
            deviations=(
                "the annotator is the weighted sum of ID-Aligner's rewards instead of a language model",
                "the best and the worst of 4 pictures make the pair, of 2 in the paper",
                "a tie is dropped and counted; the paper's annotator has to choose",
                _LANGUAGE,
                _LORA,
            ),
        ),
        status="smoke-tested",
        summary="pairs of the policy's own pictures, ordered by the rewards at every step",
        settings={
            **_SETTINGS,
            "rewards": {"identity": 0.2, "appeal": 0.001, "structure": 0.001},
            "losses": {"paired_online": {}},
        },
    ),
    __name__,
)
