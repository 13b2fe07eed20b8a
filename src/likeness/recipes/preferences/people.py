"""People: tastes that differ, what others build on, and models that say how sure they are."""

from __future__ import annotations

from collections.abc import Mapping

from likeness.core.paper import Paper
from likeness.preferences.recipe import Named, PreferenceRecipe, add_preference_recipe

_VOTES: Named = {"simulated_annotators": {}, "distorted_structure": {}}
_STRUCTURE: Named = {"head": {"text": False}}
_SMALL = "on the frozen dual encoder and simulated votes, not on a language model"


def _model(model: Named) -> Mapping[str, Named]:
    return {"appeal": model, "structure": _STRUCTURE}


for _name, _paper, _summary, _models in (
    (
        "vpl",
        Paper(
            title="Personalizing Reinforcement Learning from Human Feedback with Variational Preference Learning",
            arxiv="2408.10075",
            equations=("E_q(z | pairs) log sigma(r(w, z) - r(l, z)) - beta KL(q || p)",),
            deviations=(_SMALL, "z is not brought to one length, so that its prior's mean is the average user"),
        ),
        "a latent taste, read from a user's own votes",
        _model({"vpl": {}}),
    ),
    (
        "pal",
        Paper(
            title="PAL: Pluralistic Alignment Framework for Learning from Heterogeneous Preferences",
            arxiv="2406.08469",
            equations=("a user's ideal is a mixture of K prototypes, a picture is worth its nearness to it",),
            deviations=(_SMALL, "a new user's weights are held near the mean by a ridge"),
        ),
        "ideal points, of which a new user is a mixture",
        _model({"pal": {}}),
    ),
    (
        "secrets_ensemble",
        Paper(
            title="Secrets of RLHF in Large Language Models Part II: Reward Modeling",
            arxiv="2401.06080",
            equations=("section 2.1: M models tell how strongly a vote is held",),
            deviations=(_SMALL, "the reward is pessimistic by a deviation (2310.02743)"),
        ),
        "models on resampled prompts, and a reward that doubts where they differ",
        _model({"ensemble": {"pessimism": 1.0}}),
    ),
    (
        "secrets_contrastive",
        Paper(
            title="Secrets of RLHF in Large Language Models Part II: Reward Modeling",
            arxiv="2401.06080",
            equations=("section 3.1: L_BT + beta L_CL on the difference of a pair",),
            deviations=(_SMALL,),
        ),
        "Bradley-Terry beside a contrastive loss on pairs",
        _model({"contrastive": {}}),
    ),
):
    add_preference_recipe(
        PreferenceRecipe(
            name=_name, paper=_paper, status="smoke-tested", summary=_summary, sources=_VOTES, models=_models
        ),
        __name__,
    )

add_preference_recipe(
    PreferenceRecipe(
        name="social_reward",
        paper=Paper(
            title="Social Reward: Evaluating and Enhancing Generative AI through Million-User Feedback",
            arxiv="2402.09872",
            equations=("relu(||t - i+||^2 - ||t - i-||^2 + .3), positives are pictures that others built on",),
            deviations=(
                "a step away from the frozen encoder's joint space, where the paper unfreezes parts of CLIP",
                "events are corrected for where a picture was shown",
            ),
        ),
        status="smoke-tested",
        summary="what people build on, from a table of events",
        sources={"social_events": {"kind": "appeal"}, "distorted_structure": {}},
        models=_model({"triplet": {}}),
        ports=("votes",),
    ),
    __name__,
)

add_preference_recipe(
    PreferenceRecipe(
        name="follow_up_likelihood",
        paper=Paper(
            title="Aligning Language Models Using Follow-up Likelihood as Reward Signal",
            arxiv="2409.13948",
            equations=("r = log-likelihood of a positive follow-up; its extremes of each prompt are a pair",),
            deviations=(
                "what follows a picture is an action (remix, save, leave), not an utterance",
                "the likelihood is a ridge regression on the frozen encoder, fitted on the events of the same fold",
            ),
        ),
        status="smoke-tested",
        summary="how likely a good follow-up is, learnt from a table of events, orders each prompt's pictures",
        sources={"follow_up": {"kind": "appeal"}, "distorted_structure": {}},
        ports=("encoder", "votes"),
    ),
    __name__,
)

add_preference_recipe(
    PreferenceRecipe(
        name="secrets_meta",
        paper=Paper(
            title="Secrets of RLHF in Large Language Models Part II: Reward Modeling",
            arxiv="2401.06080",
            equations=("section 3.3: ascend the difference on unlabelled pairs, then descend the votes' loss there",),
            deviations=(
                _SMALL,
                "the shifted distribution is twisted portraits beside natural ones, not the policy's newest answers",
            ),
        ),
        status="smoke-tested",
        summary="a head that still tells pictures apart where no votes are",
        sources=_VOTES,
        models=_model({"meta": {}}),
        unlabelled={"appeal": "structure"},
    ),
    __name__,
)

add_preference_recipe(
    PreferenceRecipe(
        name="personas",
        paper=Paper(
            title="SPeCtrum: A Grounded Framework for Multidimensional Identity Representation in LLM-Based Agent",
            arxiv="2502.08599",
            equations=("an agent's identity is its social identity, its personal identity and its life context",),
            deviations=(
                "a rater computes its choice from the parts; the paper writes them into a language model's prompt",
                "persons are drawn, and so is what a group or a trait likes; how much each part tells is a setting",
            ),
        ),
        status="smoke-tested",
        summary="raters simulated from what is written down of a person, in three parts",
        sources={"personas": {}, "distorted_structure": {}},
    ),
    __name__,
)

add_preference_recipe(
    PreferenceRecipe(
        name="votes",
        paper=Paper(
            title="Aligning Text-to-Image Models using Human Feedback",
            arxiv="2302.12192",
            equations=("section 3.2: a reward model of what people said of pictures",),
            deviations=("pairs and rankings from a table, an export or the voting page, where the paper has ratings",),
        ),
        status="smoke-tested",
        summary="people's own votes: a table, an export of Label Studio or Argilla, or `likeness vote`",
        sources={"votes": {}, "distorted_structure": {}},
        ports=("votes",),
    ),
    __name__,
)
