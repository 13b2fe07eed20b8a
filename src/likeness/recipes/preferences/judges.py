"""Judges: what they have to be proof against, and judges that write before they decide."""

from __future__ import annotations

from likeness.core.paper import Paper
from likeness.preferences.recipe import Named, PreferenceRecipe, add_preference_recipe

_VOTES: Named = {"simulated_annotators": {}, "distorted_structure": {}}
_STRUCTURE: Named = {"head": {"text": False}}
_MASTER_KEYS = Paper(
    title="One Token to Fool LLM-as-a-Judge",
    arxiv="2507.08794",
    equations=("section 4: answers without content, labelled wrong, join the judge's training set",),
    deviations=(
        "a judge of pictures: blank, one colour, the reference pasted, a tiled face, the prompt in letters, noise",
        "negatives are made from the pictures that were voted on, not from cut answers",
    ),
)

add_preference_recipe(
    PreferenceRecipe(
        name="master_keys",
        paper=_MASTER_KEYS,
        status="smoke-tested",
        summary="attacks on the judge join the votes as negatives of the same head",
        sources={**_VOTES, "attack_negatives": {"each": 600, "kind": "appeal"}},
    ),
    __name__,
)

add_preference_recipe(
    PreferenceRecipe(
        name="guarded_judge",
        paper=_MASTER_KEYS,
        status="smoke-tested",
        summary="attacks train a head of their own, without whose word no picture is praised; votes keep theirs",
        sources={**_VOTES, "attack_negatives": {"each": 600, "kind": "honesty"}},
        models={"appeal": {"guarded": {}}, "honesty": {"head": {}}, "structure": _STRUCTURE},
    ),
    __name__,
)

add_preference_recipe(
    PreferenceRecipe(
        name="think_then_answer",
        paper=Paper(
            title="Unified Multimodal Chain-of-Thought Reward Model through Reinforcement Fine-Tuning",
            arxiv="2505.03318",
            equations=(
                "section 3.4: the form <think>…</think><answer>…</answer>, one reward for it and one for truth",
            ),
            deviations=(
                "every pair is asked both ways round, and an answer that changes with the order is kept apart",
                "the model is any image-text-to-text folder; training it with the rewards of reasoning.thoughts is not "
                "run here",
            ),
        ),
        status="smoke-tested",
        summary="a vision-language model compares pairs of candidates, thinking first",
        sources={"model_judge": {}, "distorted_structure": {}},
        ports=("judge",),
    ),
    __name__,
)
