"""Labels by several scores: two stages, tools, a gallery of models, whole sets, and a pool sifted by a little gold."""

from __future__ import annotations

from likeness.core.paper import Paper
from likeness.preferences.recipe import Named, PreferenceRecipe, add_preference_recipe

_STRUCTURE: Named = {"distorted_structure": {}}


def _add(name: str, paper: Paper, summary: str, source: Named, ports: tuple[str, ...]) -> None:
    recipe = PreferenceRecipe(
        name=name,
        paper=paper,
        status="smoke-tested",
        summary=summary,
        sources={**source, **_STRUCTURE},
        ports=ports,
    )
    add_preference_recipe(recipe, __name__)


_add(
    "rank_then_sift",
    Paper(
        title="Unified Reward Model for Multimodal Understanding and Generation",
        arxiv="2503.05236",
        equations=("pairs are ranked, then points pick the best of the winners and the worst of the losers",),
        deviations=(
            "a head on a frozen encoder ranks and gives points, not a vision-language model that writes both",
            "a prompt whose points contradict its ranks gives no pair",
        ),
    ),
    "pairs ranked by the reward, then sifted by its points",
    {"rank_then_sift": {"ranker": "appeal", "sifter": "appeal"}},
    ("encoder", "reward"),
)
_add(
    "anyprefer",
    Paper(
        title="Anyprefer: An Agentic Framework for Preference Data Synthesis",
        arxiv="2504.19276",
        equations=("a target model's pairs are judged with external tools; what is judged poorly is fed back",),
        deviations=(
            "log-odds of rewards and readers are added, where a language model reads what tools say",
            "feedback is the next tool's finding, not a rewritten prompt; the target's own prompt stays as it is",
        ),
    ),
    "the reward that is being trained judges its pairs with tools, and looks again where it is not sure",
    {"tool_judge": {"judge": "appeal", "tools": ("text", "fidelity")}},
    ("encoder", "reward"),
)
_add(
    "model_gallery",
    Paper(
        title="IterComp: Iterative Composition-Aware Feedback Learning from Model Gallery",
        arxiv="2410.07171",
        equations=("pictures of a gallery of models are ranked; the reward inserts each new round's into the ranking",),
        deviations=(
            "the gallery is what the candidates' columns `model` and `rank` say; without ranks the reward ranks all",
            "the other fold's reward has to confirm the labels that no person gave; the paper has no such check",
        ),
    ),
    "several models' pictures in one ranking, later rounds put into it by the reward, watched by a held-out judge",
    {"gallery": {}},
    ("encoder", "reward", "judge"),
)
_add(
    "distributional",
    Paper(
        title="DRAGON: Distributional Rewards Optimize Diffusion Generative Models",
        arxiv="2504.15217",
        equations=("two sets D+ and D- of on-policy pictures, built greedily so that m(D+) - m(D-) is large",),
        deviations=(
            "a reward model learns from the pairs; the paper gives them to Diffusion-DPO or KTO, as finetune can too",
            "pairs that change m by nothing are kept apart",
        ),
    ),
    "the pictures that make a set more varied over those that do not",
    {"distributional": {"metric": "vendi"}},
    ("encoder",),
)
_add(
    "curated_pool",
    Paper(
        title="Skywork-Reward-V2: Scaling Preference Data Curation via Human-AI Synergy",
        arxiv="2507.01352",
        equations=(
            "gold seed; relabelling guided by the most similar gold pairs; filter by agreement with a gold reward",
        ),
        deviations=(
            "the nearest gold pairs vote on a label, where a language model reads them",
            "one round; gold and pool are simulated votes, the pool's 30 % turned",
        ),
    ),
    "a little gold relabels and sifts a large noisy pool",
    {"guided_relabel": {}},
    ("encoder",),
)
