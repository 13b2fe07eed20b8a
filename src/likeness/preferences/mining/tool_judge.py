"""Source ``tool_judge``: a judge with tools, who looks again where it is not sure (Anyprefer, 2504.19276).

The judge's own log-odds of a pair (a, b) are joined by those of one tool a round:
l_t = sum over k <= t of w_k (s_k(a) - s_k(b)) / rms_k, rms_k over all pairs, and it is sigma(|l_t|) sure. A pair of
less than ``confidence`` is fed back and judged again with the next tool; one that no tool settles is kept apart. There
the judge is a language model, and what it is told after a poor round is a better prompt; here it is the next finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError, did_you_mean
from likeness.preferences.attributes import SHARPNESS, read_attributes, to_tensor
from likeness.preferences.scored import Scored, score
from likeness.preferences.sources import SOURCES, Material, Mined, Quarantined, Source
from likeness.preferences.voting import draw_pairs

FIDELITY = "fidelity"
_BATCH = 64


class ToolJudgeConfig(Config):
    """``judge``: the reward whose own opinion comes first, such as the one that is being trained.

    ``tools``: asked in this order, one a round: rewards (``identity`` detects and recognises the subject); of the
    attribute reader ``fidelity``, the share of what the prompt names that it sees, and ``factor=value``; ``sharpness``.
    ``weights``: of the judge and the tools, 1 where none is given, below 0 for what is not wanted. ``together``: tools
    that are asked in the first round already.
    """

    judge: str = "text"
    tools: tuple[str, ...] = Field(default=("identity", FIDELITY), min_length=1)
    weights: Mapping[str, float] = {}
    together: int = Field(default=1, ge=0)
    confidence: float = Field(default=0.75, ge=0.5, lt=1)
    pairs_per_group: int = Field(default=3, ge=1)
    kind: str = "appeal"
    det_size: int = Field(default=640, ge=32)


@dataclass(frozen=True)
class Judged:
    """P pairs. ``log_odds``: (P,) that the first is better; ``rounds``: (P,) looks taken; ``first``: (P,) of the
    first look.
    """

    log_odds: np.ndarray
    rounds: np.ndarray
    first: np.ndarray

    @property
    def sure(self) -> np.ndarray:
        """(P,) in [0.5, 1)."""
        from scipy.special import expit

        result: np.ndarray = expit(np.abs(self.log_odds))
        return result


def deliberate(findings: np.ndarray, confidence: float, together: int) -> Judged:
    """``findings``: (1 + T, P) log-odds, the judge's own and each tool's, in the order of asking."""
    from scipy.special import logit

    enough = float(logit(confidence))
    total = findings[: 1 + together].sum(axis=0)
    first, rounds = total.copy(), np.ones(findings.shape[1], dtype=int)
    for finding in findings[1 + together :]:
        again = np.abs(total) < enough
        total = np.where(again, total + finding, total)
        rounds += again
    return Judged(total, rounds, first)


def standardised(readings: np.ndarray, a: np.ndarray, b: np.ndarray, weight: float) -> np.ndarray:
    """(P,) differences of ``readings`` (N,) between rows ``a`` and ``b``, ``weight`` on root mean square."""
    differences = readings[a] - readings[b]
    spread = float(np.sqrt(np.mean(differences**2))) if len(differences) else 0.0
    result: np.ndarray = weight * differences / spread if spread > 0 else np.zeros(len(differences))
    return result


def mine(config: ToolJudgeConfig, material: Material) -> Mined:
    """A label of each pair that the judge is sure of in the end; strength is how sure.

    Raises:
        ConfigError: a tool is neither a reward nor anything that the attribute reader sees.
    """
    scored, readings = _read(config, material)
    groups = [str(row["group"]) for row in scored.rows]
    pairs = draw_pairs(groups, config.pairs_per_group, material.seed, material.judge_share)
    a, b = (np.array([getattr(pair, side) for pair in pairs], dtype=int) for side in ("a", "b"))
    asked = [config.judge, *config.tools]
    weights = [config.weights.get(name, 1.0) for name in asked]
    findings = np.stack([standardised(readings[n], a, b, w) for n, w in zip(asked, weights, strict=True)])
    judged = deliberate(findings, config.confidence, config.together)
    found, apart = [], []
    for pair, odds, sure in zip(pairs, judged.log_odds, judged.sure, strict=True):
        if sure < config.confidence or odds == 0:
            what = {"group": pair.group, "a": pair.a, "b": pair.b, "sure": round(float(sure), 6)}
            apart.append(Quarantined("unsure", what))
            continue
        winner, loser = (pair.a, pair.b) if odds > 0 else (pair.b, pair.a)
        strength = round(float(sure), 6)
        found.append(scored.prefer(material, winner, loser, config.kind, "tool-judge", strength=strength))
    turned = (judged.log_odds > 0) != (judged.first > 0)
    metrics = {"judged_again": int((judged.rounds > 1).sum()), "turned": int(turned.sum()), "unsure": len(apart)}
    return Mined(found, quarantined=apart, metrics=metrics)


def _read(config: ToolJudgeConfig, material: Material) -> tuple[Scored, Mapping[str, np.ndarray]]:
    """The candidates, and what the judge and each tool read of them, (N,) each."""
    from likeness.rewards.compose import REWARDS

    seen = [name for name in config.tools if "=" in name or name in (FIDELITY, SHARPNESS)]
    asked = dict.fromkeys([config.judge, *config.tools])
    unknown = set(asked) - set(seen) - set(REWARDS)
    if unknown:
        name = sorted(unknown)[0]
        raise ConfigError(f"there is no tool '{name}'", remedy=did_you_mean(name, [*REWARDS, FIDELITY, SHARPNESS]))
    scored = score(material, [name for name in asked if name not in seen], "tool_judge", config.det_size)
    return scored, {**scored.readings, **(_attributes(seen, material, scored) if seen else {})}


def _attributes(names: Sequence[str], material: Material, scored: Scored) -> dict[str, np.ndarray]:
    import torch

    from likeness.models.embedded.oracle import AttributeReader, prompt_fidelity

    reader = AttributeReader.load(material.need("oracle", "tool_judge"))
    columns, values = read_attributes([row["image"] for row in scored.rows], reader.probabilities)
    found = dict(zip(columns, values.T, strict=True))
    if FIDELITY in names:
        parts = [scored.rows[start : start + _BATCH] for start in range(0, len(scored.rows), _BATCH)]
        with torch.no_grad():
            read = [
                prompt_fidelity(reader, to_tensor([r["image"] for r in p]), [r["prompt"] for r in p]) for p in parts
            ]
        found[FIDELITY] = torch.cat(read).double().numpy()
    for name in names:
        if name not in found:
            raise ConfigError(f"the attribute reader sees no '{name}'", remedy=did_you_mean(name, list(found)))
    return {name: found[name] for name in names}


SOURCES.add("tool_judge", Source(ToolJudgeConfig, mine), __name__)
