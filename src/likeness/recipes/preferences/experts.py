"""Experts: a reward for each part of a taste, and ways to put them together."""

from __future__ import annotations

from typing import Any

from likeness.core.paper import Paper
from likeness.preferences.recipe import Named, PreferenceRecipe, add_preference_recipe

_STRUCTURE: Named = {"head": {"text": False}}
_SOURCES: Named = {"aspects": {}, "distorted_structure": {}}
_PARTS = ("accessory", "colour", "expression")


def _models(part: str, overall: str, **settings: Any) -> dict[str, Named]:
    """``part`` for each aspect, ``overall`` for the whole."""
    fused = {"kinds": _PARTS, **settings}
    return {**{kind: {part: {}} for kind in _PARTS}, "appeal": {overall: fused}, "structure": _STRUCTURE}


def _add(name: str, paper: Paper, summary: str, models: dict[str, Named], sources: Named = _SOURCES) -> None:
    recipe = PreferenceRecipe(
        name=name, paper=paper, status="smoke-tested", summary=summary, sources=sources, models=models
    )
    add_preference_recipe(recipe, __name__)


_add(
    "directional_preferences",
    Paper(
        title="Arithmetic Control of LLMs for Diverse User Preferences: Directional Preference Alignment",
        arxiv="2402.18571",
        equations=("eq. 2: R(x, v, y) = v^T r(x, y), ||v|| = 1",),
        deviations=(
            "heads are trained from votes and ratings, each on its own, not by regression on one trunk",
            "the direction is a setting; a policy conditioned on it is not trained here",
        ),
    ),
    "a reward for each aspect, weighed along a direction that can be turned afterwards",
    _models("pair_and_point", "multi_objective"),
)
_add(
    "expert_heads",
    Paper(
        title="HumanAesExpert: Advancing a Multi-Modality Foundation Model for Human Image Aesthetic Assessment",
        arxiv="2503.23907",
        equations=("MetaVoter: one score from the scores of all heads",),
        deviations=(
            "three aspects of a simulated taste for its twelve dimensions",
            "a weighted sum with weights above 0, not a perceptron: few votes have to suffice",
        ),
    ),
    "heads for the parts of the taste, and a vote over them learnt from the overall votes",
    _models("pair_and_point", "meta_voter"),
)
_add(
    "typed_rewards",
    Paper(
        title="FGAIF: Aligning Large Vision-Language Models with Fine-grained AI Feedback",
        arxiv="2404.05046",
        equations=("three reward models, one a type of error, each given at every segment; their sum is the reward",),
        deviations=(
            "segments are patches of a picture, types are parts of the taste",
            "a type's labels are for pictures, not for segments: a reward that is a sum over patches divides them",
        ),
    ),
    "a reward for each type, given patch by patch, and their sum",
    _models("typed", "multi_objective", unit=False),
)
_add(
    "composition_aware",
    Paper(
        title="IterComp: Iterative Composition-Aware Feedback Learning from Model Gallery",
        arxiv="2410.07171",
        equations=("loss: sum over the three reward models of relu(2 - r_k)",),
        deviations=(
            "attribute binding, spatial and other relations become accessories, colours and expressions",
            "one model draws the candidates, not a gallery; no second round",
        ),
    ),
    "three rewards that stop counting at 2, so that none is bought with another",
    _models("head", "multi_objective", unit=False, limit=2.0),
)
_add(
    "pair_and_point",
    Paper(
        title="Unified Reward Model for Multimodal Understanding and Generation",
        arxiv="2503.05236",
        equations=("pairwise ranking and pointwise scoring by one model",),
        deviations=("a head with two losses, not a model that writes either answer",),
    ),
    "one head from votes and ratings",
    {"appeal": {"pair_and_point": {}}, "structure": _STRUCTURE},
)
_add(
    "text_guided",
    Paper(
        title="UniQA: Unified Vision-Language Pre-training for Image Quality and Aesthetic Assessment",
        arxiv="2406.01069",
        equations=("score: sum of levels, weighed by the softmax of cosines to five texts from bad to perfect",),
        deviations=(
            "the encoder is not pre-trained on written judgements",
            "the adapter starts at 0 and has no activation at its end, so that it can move a picture either way",
        ),
    ),
    "words for good and bad as anchors, and a light adapter",
    {"appeal": {"text_guided": {}}, "structure": _STRUCTURE},
    {"simulated_annotators": {}, "distorted_structure": {}},
)
