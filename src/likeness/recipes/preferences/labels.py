"""Labels that are not all right: how strongly a vote is held, who cast it, and labels that rewards make."""

from __future__ import annotations

from likeness.core.paper import Paper
from likeness.preferences.recipe import Named, PreferenceRecipe, add_preference_recipe

_VOTES: Named = {"simulated_annotators": {}, "distorted_structure": {}}
_OWN = "votes and taste are simulated, on a small frozen encoder; the paper has language models"


def _secrets(equation: str, *more: str) -> Paper:
    return Paper(
        title="Secrets of RLHF in Large Language Models Part II: Reward Modeling",
        arxiv="2401.06080",
        equations=(equation,),
        deviations=(_OWN, "strength is cross-fitted: models that did not see a pair's group score it", *more),
    )


for _name, _treatment, _summary, _equation in (
    ("secrets_drop", "drop", "the votes that models contradict most are left out", "section 2.3: the lowest 20 % harm"),
    ("secrets_flip", "flip", "the votes that models contradict most are turned", "section 2.3: labels turned"),
    ("secrets_smooth", "smooth", "contradicted votes count less surely", "eq. 8: label smoothing"),
    ("secrets_margin", "adaptive_margin", "a vote has to be won by as much as models say", "eq. 9: -log sigma(dr - u)"),
):
    add_preference_recipe(
        PreferenceRecipe(
            name=_name,
            paper=_secrets(_equation),
            status="smoke-tested",
            summary=_summary,
            sources=_VOTES,
            treatments={"appeal": ({_treatment: {}},)},
        ),
        __name__,
    )

add_preference_recipe(
    PreferenceRecipe(
        name="harmonic_labels",
        paper=Paper(
            title="Subject-driven Text-to-Image Generation via Preference-based Reinforcement Learning",
            arxiv="2407.12164",
            equations=("r = 1 / (lambda / s_img + (1 - lambda) / s_txt); labels ~ Bernoulli(sigma(r_a - r_b))",),
            deviations=(
                "labels have a temperature: those of the released code are near coin flips",
                "the two similarities are the pack's identity and the dual encoder's text, not ALIGN's",
            ),
        ),
        status="smoke-tested",
        summary="labels drawn from a harmonic mean of identity and text",
        sources={"harmonic_labels": {}, "distorted_structure": {}},
        ports=("encoder", "faces", "references"),
    ),
    __name__,
)

add_preference_recipe(
    PreferenceRecipe(
        name="magicid_pairs",
        paper=Paper(
            title="MagicID: Hybrid Preference Optimization for ID-Consistent and Dynamic-Preserved Video Customization",
            arxiv="2503.12689",
            equations=("pairs by a dynamic gap of the identity reward, then by the frontier of identity and dynamics",),
            deviations=("a picture has no dynamics: the second axis is the text reward",),
        ),
        status="smoke-tested",
        summary="pairs far apart in identity, and pairs on and off a Pareto frontier",
        sources={"reward_gap": {}, "distorted_structure": {}},
        ports=("encoder", "faces", "references"),
    ),
    __name__,
)

add_preference_recipe(
    PreferenceRecipe(
        name="cream",
        paper=Paper(
            title="CREAM: Consistency Regularized Self-Rewarding Language Models",
            arxiv="2410.12735",
            equations=("C = (Kendall tau + 1) / 2; L = C l(w, l) + (1 - C) l(l, w)",),
            deviations=("a reward on a frozen encoder, and not a language model, labels its own next pairs",),
        ),
        status="smoke-tested",
        summary="the reward labels its own next pairs, held as far as two rounds rank alike",
        sources={"self_labels": {}, "distorted_structure": {}},
        treatments={"appeal": ({"soft_labels": {}},)},
        ports=("encoder", "reward"),
    ),
    __name__,
)
