"""Claims about judges: what structure negatives teach, and what master keys do to a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from claims import Claim, Figures, Rule
from testbed import Eyes, Testbed

from likeness.core.seeds import derive_seed
from likeness.data.images import decode
from likeness.data.shards import read_rows
from likeness.models.faces.pack import detect_keypoints, load_pack
from likeness.models.generator import load_pipeline
from likeness.models.runtime import torch_session
from likeness.preferences.features import encode_pairs, split_by_group
from likeness.preferences.mining.attack_negatives import AttackNegativesConfig, mine
from likeness.preferences.pairs import Preference, of_kind, read_preferences
from likeness.preferences.probes import adversarial, false_positives, judge_of
from likeness.preferences.sources import Material
from likeness.rewards.fit import FitConfig
from likeness.rewards.learnt import FitData, Scorer, margins
from likeness.rewards.models.guarded import GuardedConfig, fit_guarded
from likeness.rewards.models.head import HeadConfig, fit_head

ATTACKS = ("blank", "solid_colour", "pasted_reference", "tiled_face", "text_overlay", "noise")
EMPTY = ("blank", "solid_colour", "noise")  # nothing is in them: the nearest to the paper's keys
EACH = 600


def master_keys(bed: Testbed) -> Figures:
    """D15. False positives of the appeal head: plain, with attacks among its negatives, and guarded by another head.

    The last two also with one attack left out of training, which is then the one that is measured.
    """
    torch_session(bed.seed, 1)
    votes = of_kind(read_preferences(bed.path("mine_preferences", "preferences"), "reward"), "appeal")
    split = split_by_group([vote.group for vote in votes], 0.15, 0.2, derive_seed(bed.seed, "D15"))
    parts = [[votes[i] for i in rows] for rows in (split.train, split.validation, split.test)]
    arms = Arms(bed, *parts)
    scorers = {"before": arms.plain(()), "mixed": arms.plain(ATTACKS), "guarded": arms.guarded(ATTACKS)}
    figures: Figures = {}
    for name, scorer in scorers.items():
        rates = arms.rates(scorer, ATTACKS)
        figures |= {f"{attack}_{name}": rate for attack, rate in rates.items()}
        figures[f"fpr_{name}"] = float(np.mean([rates[attack] for attack in ATTACKS]))
        figures[f"fpr_{name}_empty"] = float(np.mean([rates[attack] for attack in EMPTY]))
        figures[f"accuracy_{name}"] = float((margins(scorer, arms.clean) > 0).float().mean())
        figures[f"adversarial_{name}"] = adversarial(arms.encoder, scorer, arms.test, bed.seed)["rate"]
    for name, train in (("mixed", arms.plain), ("guarded", arms.guarded)):
        left = [arms.rates(train([o for o in ATTACKS if o != attack]), [attack])[attack] for attack in ATTACKS]
        figures[f"fpr_{name}_left_out"] = float(np.mean(left))
        for suffix, before in (("", ""), ("_left_out", ""), ("_empty", "_empty")):
            figures[f"fpr_cut_{name}{suffix}"] = 1 - figures[f"fpr_{name}{suffix}"] / figures[f"fpr_before{before}"]
        figures[f"accuracy_gained_{name}"] = figures[f"accuracy_{name}"] - figures["accuracy_before"]
    return figures


class Arms:
    """What D15 compares, on one split of one fold's votes and the attacks on the pictures of the same prompts."""

    def __init__(
        self, bed: Testbed, train: list[Preference], validation: list[Preference], test: list[Preference]
    ) -> None:
        self.encoder, self.seed, self.test = bed.assets.dual_encoder, bed.seed, test
        votes = [encode_pairs(self.encoder, part) for part in (train, validation)]
        self.votes = FitData(votes[0], votes[1], bed.seed)
        self.clean = encode_pairs(self.encoder, test)
        self.parts, self.groups = (train, validation), [{vote.group for vote in part} for part in (train, validation)]
        self.negatives = _negatives(bed)

    def _with(self, attacks: Sequence[str], votes: bool) -> FitData:
        parts = []
        for part, groups in zip(self.parts, self.groups, strict=True):
            pairs = [pair for name in attacks for pair in self.negatives[name] if pair.group in groups]
            parts.append(encode_pairs(self.encoder, [*(part if votes else ()), *pairs]))
        return FitData(parts[0], parts[1], self.seed)

    def plain(self, attacks: Sequence[str]) -> Scorer:
        """One head on the votes and these attacks."""
        return fit_head(HeadConfig(), FitConfig(), self._with(attacks, votes=True)).scorer

    def guarded(self, attacks: Sequence[str]) -> Scorer:
        """The head on the votes, and one on these attacks that guards it."""
        guard = fit_head(HeadConfig(), FitConfig(), self._with(attacks, votes=False)).scorer
        return fit_guarded(GuardedConfig(), FitConfig(), replace(self.votes, heads={"honesty": guard})).scorer

    def rates(self, scorer: Scorer, attacks: Sequence[str]) -> dict[str, float]:
        """Attack -> share of false positives on the test pairs."""
        found = false_positives(judge_of(self.encoder, scorer), self.test, self.seed, attacks)
        return {name: one["rate"] for name, one in found.items()}


def _negatives(bed: Testbed) -> dict[str, list[Preference]]:
    """Attack -> its pairs of the reward's fold."""
    settings = bed.plan.configs["mine_preferences"].model_dump()
    candidates, train = bed.path("generate_candidates", "candidates"), bed.path("split", "train")
    material = Material(candidates, train, bed.plan.sources["oracle"], bed.seed, settings["judge_share"])
    return {
        name: [
            pair
            for pair in mine(AttackNegativesConfig(attacks=(name,), each=EACH), material).preferences
            if pair.fold == "reward"
        ]
        for name in ATTACKS
    }


class Geometry:
    """How far a face's five points lie from where natural faces have theirs, by the judge's own detector.

    Mahalanobis distance of the (10,) positions to the training portraits'. A picture is a defect without a face, or
    beyond the distance that 95 % of other natural portraits keep.
    """

    def __init__(self, bed: Testbed) -> None:
        self.pack = load_pack(bed.plan.sources["judge_faces"], 64, 1, modules=["detection"])
        natural = [decode(row["image"]) for row in read_rows(bed.path("split", "train"), ["image"])]
        points = self._points(natural)
        points = points[np.isfinite(points).all(axis=1)]
        fit, held_out = points[::2], points[1::2]
        self.mean, self.inverse = fit.mean(axis=0), np.linalg.pinv(np.cov(fit.T))
        self.limit = float(np.quantile(self._distance(held_out), 0.95))

    def _points(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        return detect_keypoints(self.pack, images)[0].numpy().reshape(len(pictures), 10).astype(np.float64)

    def _distance(self, points: np.ndarray) -> np.ndarray:
        away = points - self.mean
        return np.where(np.isfinite(points).all(axis=1), np.einsum("ni,ij,nj->n", away, self.inverse, away), np.inf)

    def defects(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """(N,) bool."""
        result: np.ndarray = self._distance(self._points(pictures)) > self.limit
        return result


def structure_reward(bed: Testbed) -> Figures:
    """D3. The structure head on the base model's own artefacts, and their rate before and after tuning with it."""
    geometry = Geometry(bed)
    reward = bed.assets.learnt.only("structure")

    own = {"defects": lambda pictures: float(geometry.defects(pictures).mean())}
    settings = {
        "steps": 60,
        "losses": {"reward_backprop": {"late": [0, 3]}},
        "rewards": {"structure": 1.0},
        "learning_rate": 3e-4,
    }
    eyes = Eyes(bed, prompts=192, own=own)
    records = bed.run("structure", settings, every=20, watch=(*own, "prompt_fidelity"), eyes=eyes)
    first, last = records[0], records[-1]
    base = load_pipeline(bed.plan.sources["base_model"])
    unfinished, finished = eyes.pictures(base, steps=2), eyes.pictures(base, steps=20)
    judge = judge_of(reward.encoder, reward.heads["structure"])
    scores = judge([*unfinished, *finished], [""] * (2 * len(finished)))
    truth = np.arange(len(scores)) < len(unfinished)
    chance = np.random.default_rng(derive_seed(bed.seed, "D3")).permutation(truth)
    return {
        "auc": auc(-scores, truth),
        "auc_of_chance": auc(-scores, chance),
        "defects": first["defects"],
        "defects_unfinished": float(geometry.defects(unfinished).mean()),
        "defects_tuned": last["defects"],
        "defects_removed": first["defects"] - last["defects"],
        "fidelity_lost": first["prompt_fidelity"] - last["prompt_fidelity"],
    }


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties half."""
    from scipy.stats import rankdata

    ranks, count = rankdata(scores), int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(scores) - count)))


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            name="D3",
            paper="ID-Aligner, 2404.15449, section 3.3",
            statement="negatives made by twisting natural pictures teach a reward that sees the model's own artefacts",
            arms={
                "structure": "the structure head, trained on twisted portraits alone",
                "chance": "the same scores against permuted labels",
                "tuned": "60 steps of that reward's gradient, against the base model",
            },
            measure=structure_reward,
            rules=(
                Rule("auc", 0.5, "AUC of the structure reward: the base model's unfinished pictures against finished"),
                Rule("defects_removed", 0.0, "share of defects that tuning with it removes"),
            ),
            notes="The base model's own artefacts: what it draws in 2 steps, against 20 from the same noise. A defect: "
            "the judge's detector sees no face, or its points lie farther from where natural ones lie than those of "
            "95 % of natural portraits. In 4 steps the base model has hardly more of them than portraits have.",
        ),
        Claim(
            name="D15",
            paper="One Token to Fool LLM-as-a-Judge, 2507.08794",
            statement="pictures without content fool a judge, and the same kinds as negatives cure it of them",
            arms={
                "before": "the appeal head, trained on votes",
                "mixed": "the same with pairs of six attacks among its own (300 of each in the fold)",
                "guarded": "the head on the votes alone, guarded by a head on the attacks alone",
                "left out": "both without the attack that is then measured",
            },
            measure=master_keys,
            rules=(
                Rule("fpr_cut_mixed", 0.9, "share of the false positives that go, attacks among the negatives"),
                Rule("accuracy_gained_mixed", -0.01, "accuracy gained on clean votes by then (a point may be lost)"),
                Rule("fpr_cut_guarded", 0.9, "share of the false positives that go, guarded"),
                Rule("accuracy_gained_guarded", -0.01, "accuracy gained on clean votes, guarded"),
            ),
            notes="fpr_*_empty: of blank, solid colour and noise alone. Half of the pasted references fill the "
            "picture: a good portrait, of another prompt. prompt_punctuation and adversarial (4/255 by one who knows "
            "the judge) are in no rule. 600 pairs an attack and a guard that suspects 3 % were chosen on seed 0.",
        ),
    )
}
