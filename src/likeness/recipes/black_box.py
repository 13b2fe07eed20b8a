"""Learning from rewards whose gradient is not asked for, paper by paper.

Their rewards are general preference models; here the learnt appeal stands in, and a params file names others.
"""

from __future__ import annotations

from likeness.core.paper import Paper
from likeness.training.plan import Recipe, add_recipe

_APPEAL = {"appeal": 1.0}
_REWARD = "the reward is the appeal head trained in the same pipeline"
_GUIDANCE = "without classifier-free guidance, where the paper samples with it"
_PER_ENTRY = "densities are means over latent entries, as in the papers' codes, so that clip ranges carry over"
_DDPO = "Training Diffusion Models with Reinforcement Learning"

add_recipe(
    Recipe(
        name="ddpo",
        paper=Paper(
            title=_DDPO,
            arxiv="2305.13301",
            equations=(
                "eq. 5: the clipped importance-sampling estimator over denoising steps, clip range 1e-4",
                "advantages by each prompt's own running mean and deviation",
            ),
            deviations=(
                _REWARD,
                _GUIDANCE,
                _PER_ENTRY,
                "10 DDIM steps with eta 1, where the paper has 50",
                "an optimiser step learns from a third of its trajectories' steps: the clip has work; 16 a batch",
            ),
        ),
        status="smoke-tested",
        summary="clipped policy gradient on the denoising chain",
        settings={
            "steps": 1000,
            "batch": 16,
            "learning_rate": 3e-4,
            "rewards": _APPEAL,
            "losses": {"policy_gradient": {"steps": 10, "times_per_step": 3, "advantage": "prompt_history"}},
        },
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="flow_grpo",
        paper=Paper(
            title="Flow-GRPO: Training Flow Matching Models via Online RL",
            arxiv="2505.05470",
            equations=(
                "the flow's ODE as an SDE with the same marginals, noise level a = 0.7",
                "group-relative advantages over the images of a prompt, clipped ratios, KL to the reference",
            ),
            deviations=(
                _REWARD,
                _GUIDANCE,
                _PER_ENTRY,
                "8 images a prompt and 10 steps in training, where the paper has 24 and 10; 3 optimiser steps a round",
                "on an epsilon or v model the same recipe runs on the DDIM chain",
            ),
        ),
        status="smoke-tested",
        summary="group-relative policy gradient on a flow's SDE",
        settings={
            "steps": 1000,
            "batch": 16,
            "learning_rate": 3e-4,
            "rewards": _APPEAL,
            "losses": {
                "policy_gradient": {
                    "steps": 10,
                    "eta": 0.7,
                    "times_per_step": 3,
                    "advantage": "group",
                    "images_per_prompt": 8,
                    "kl": 0.04,
                }
            },
        },
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="raft",
        paper=Paper(
            title="RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment",
            arxiv="2304.06767",
            equations=("algorithm 1: of K samples a prompt keep the best, fine-tune on them, repeat",),
            deviations=(_REWARD, _GUIDANCE, "K = 8 and 4 updates a round; the pictures' latents are the rollouts' own"),
        ),
        status="smoke-tested",
        summary="denoising of the best of the policy's own pictures",
        settings={
            "steps": 1000,
            "learning_rate": 1e-4,
            "rewards": _APPEAL,
            "losses": {"best_of_k": {"steps": 10, "images_per_prompt": 8}},
        },
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="rwr",
        paper=Paper(
            title=_DDPO,
            arxiv="2305.13301",
            equations=("section 4.2: reward-weighted regression, w = exp(beta r) / Z",),
            deviations=(_REWARD, _GUIDANCE, "Z over the pictures of one prompt; 1 / beta = 0.2"),
        ),
        status="smoke-tested",
        summary="denoising of the policy's own pictures, weighted by their rewards",
        settings={
            "steps": 1000,
            "learning_rate": 1e-4,
            "rewards": _APPEAL,
            "losses": {"reward_weighted": {"steps": 10, "images_per_prompt": 8}},
        },
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="prdp",
        paper=Paper(
            title="PRDP: Proximal Reward Difference Prediction for Large-Scale Reward Finetuning of Diffusion Models",
            arxiv="2402.08714",
            equations=(
                "((L_a - L_b) - (r_a - r_b) / beta)^2, L the log-ratio to the reference over the trajectory",
                "proximal updates: log-ratios clipped around the snapshot's, the larger of the two losses",
            ),
            deviations=(
                _REWARD,
                _GUIDANCE,
                _PER_ENTRY,
                "10 DDIM steps; beta and clip per latent entry: the paper's sums over entries are on another scale",
            ),
        ),
        status="smoke-tested",
        summary="regression of trajectories' log-ratios on reward differences, in proximal updates",
        settings={
            "steps": 1000,
            "learning_rate": 1e-4,
            "rewards": _APPEAL,
            "losses": {"reward_regression": {"steps": 10, "beta": 100.0, "clip": 1e-3}},
        },
    ),
    __name__,
)

add_recipe(
    Recipe(
        name="rebel",
        paper=Paper(
            title="REBEL: Reinforcement Learning via Regressing Relative Rewards",
            arxiv="2404.16767",
            equations=("((L_a - L_b) / eta - (r_a - r_b))^2, L the log-ratio to the policy that drew the pair",),
            deviations=(_REWARD, _GUIDANCE, _PER_ENTRY, "10 DDIM steps; eta is 1 / beta"),
        ),
        status="smoke-tested",
        summary="the same regression against the policy of the round's beginning",
        settings={
            "steps": 1000,
            "learning_rate": 1e-4,
            "rewards": _APPEAL,
            "losses": {"reward_regression": {"steps": 10, "beta": 100.0, "against": "snapshot"}},
        },
    ),
    __name__,
)
