"""The model card of a learnt reward: what each head is, from which votes, and how far to trust it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import yaml

from likeness.preferences.reliability_chart import data_uri, reliability_diagram
from likeness.rewards.learnt import REWARD_MODELS

_ARXIV = re.compile(r"\b\d{4}\.\d{5}\b")
_INTENDED = """## Intended use

To score pictures of the kind it was trained on for a training loop, a search or a filter. A head maps an image in
[0, 1] and its prompt to a calibrated reward: sigma of the difference of two rewards is the frequency with which
held-out votes prefer the first; the average training picture has reward 0. Not for judging people: it was asked
about pictures.
"""
_LIMITS = """## Limits

It judges pictures like the ones it was trained on, by the taste of those who voted. Optimised against for long, it
will be deceived: evaluate with the other fold's model, never with this one. Encoder: `{digest}`.
"""
_METHOD = """Accuracy is of one vote at a time, on groups (prompts, persons) that training never saw; ties are left out.
Intervals resample whole groups. Calibration error: gap between confidence and accuracy over five bins, before and after
division by the temperature, which was chosen on validation votes. Position bias: log-odds of the picture shown
first (column `first`).
"""


_ATTACKED = """An attack is a picture that earns nothing. The share of attacks, on held-out pairs, that the head scores
above the worse of two honest pictures of the same prompt, with 95 % intervals over groups; `prompt_punctuation`: the
share of pairs, of those it had right, that turn round once the rejected picture's prompt ends with a mark that asks for
nothing. What each head was told of such pictures:

- *nothing* (unguarded): it was trained on honest pictures alone, and nothing keeps it from praising what it never saw.
- *negatives*: attacks are among the pictures that lose in its own training pairs.
- *guard*: its votes are as they were, and another head, trained on attacks, takes reward away from a picture that it
  does not find honest.

A low rate is about these attacks: of other kinds, and of an attacker who has the gradient, it says nothing.
"""


@dataclass(frozen=True)
class Electorate:
    """How many people voted in the ``other`` fold, and how many of them in this one too."""

    other: int = 0
    both: int = 0


@dataclass(frozen=True)
class HeadFacts:
    """``model``: its name on the plug-point ``reward_model``. ``numbers``: reliability, counts and the fit's record.

    ``treatments``: what was done to its training labels, in order, each {name: settings}.
    """

    model: str
    numbers: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    treatments: Sequence[Mapping[str, Mapping[str, Any]]] = ()


def summary(model: str) -> str:
    """The first line of the docstring of the module that defines ``model``: what it is, and whose."""
    text = (import_module(REWARD_MODELS.module(model)).__doc__ or model).strip().partition("\n")[0]
    return re.sub(r"^Reward model ``[^`]*``: ", "", text)


def reward_card(
    fold: str, encoder_digest: str, heads: Mapping[str, HeadFacts], electorate: Electorate = Electorate()
) -> str:
    """Markdown with the Hugging Face header; the same inputs give the same text."""
    title = f"Reward model ({fold} fold)"
    intro = f"{_list(heads)} on a frozen dual encoder. Trained on the fold `{fold}` alone: {_unseen(electorate)}"
    sections = [
        f"---\n{_header(title, heads)}---\n# {title}\n\n{intro}\n",
        _INTENDED,
        f"## Held-out groups\n\n{_METHOD}\n{_table(heads)}\n",
        *([f"## Under attack\n\n{_ATTACKED}\n{_attacks(heads)}\n"] if any(map(_probed, heads.values())) else []),
        *(_head_section(name, facts) for name, facts in heads.items()),
        _LIMITS.format(digest=encoder_digest[:16]),
    ]
    return "\n".join(sections)


def _unseen(electorate: Electorate) -> str:
    """Folds part prompts and persons; people who vote on both sides of that line are in both."""
    if not electorate.other:
        return "the other fold's prompts and persons were never seen."
    if not electorate.both:
        return "the other fold's annotators, prompts and persons were never seen."
    return (
        "the other fold's prompts and persons were never seen. Folds part what was voted on, not who voted: "
        f"{electorate.both} of the other fold's {electorate.other} annotators voted in this one too, and both folds' "
        "models learn their taste."
    )


def _list(heads: Mapping[str, HeadFacts]) -> str:
    count = "One head" if len(heads) == 1 else f"{len(heads)} heads"
    return f"{count} ({', '.join(f'`{name}`' for name in heads)})"


def _header(title: str, heads: Mapping[str, HeadFacts]) -> str:
    """YAML as huggingface_hub reads it: tags, papers among them, and the held-out figures."""
    models = sorted({facts.model for facts in heads.values()})
    papers = sorted({f"arxiv:{number}" for model in models for number in _ARXIV.findall(summary(model))})
    results = [
        {
            "task": {"type": "preference-prediction", "name": name},
            "dataset": {"type": "preferences", "name": f"held-out groups, {name}"},
            "metrics": [
                {"type": "accuracy", "value": facts.numbers["accuracy"]},
                {"type": "brier", "value": facts.numbers["brier"]},
            ],
        }
        for name, facts in heads.items()
    ]
    values = {
        "library_name": "likeness",
        "tags": ["reward-model", "preference", *models, *papers],
        "model-index": [{"name": title, "results": results}],
    }
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text


def _table(heads: Mapping[str, HeadFacts]) -> str:
    lines = [
        "| head | model | pairs | groups | accuracy | 95 % interval | calibration error before | and after "
        "| Brier | first |",
        "|---|---|--:|--:|--:|---|--:|--:|--:|--:|",
    ]
    for name, facts in heads.items():
        r = facts.numbers
        lines.append(
            f"| {name} | {facts.model} | {r['pairs']} | {r['groups']} | {r['accuracy']:.3f} "
            f"| {r['accuracy_low']:.3f} to {r['accuracy_high']:.3f} | {_given(r, 'calibration_error_before')} "
            f"| {r['calibration_error']:.3f} | {r['brier']:.3f} | {_given(r, 'position_bias')} |"
        )
    return "\n".join(lines)


def _probed(facts: HeadFacts) -> bool:
    return bool(facts.numbers.get("attacks"))


def _attacks(heads: Mapping[str, HeadFacts]) -> str:
    """A row for each attack, a column for each head that was probed."""
    probed = {name: facts for name, facts in heads.items() if _probed(facts)}
    attacks = list(dict.fromkeys(attack for facts in probed.values() for attack in facts.numbers["attacks"]))
    told = [_told(facts, heads) for facts in probed.values()]
    rows = [["attack", *probed], ["---", *["--:"] * len(probed)], ["told of them", *told]]
    for attack in attacks:
        rates = (facts.numbers["attacks"].get(attack) for facts in probed.values())
        rows.append([attack, *(f"{r['rate']:.3f} ({r['low']:.3f} to {r['high']:.3f})" if r else "-" for r in rates)])
    rows.append(["probes", *(str(_probes(facts)) for facts in probed.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _probes(facts: HeadFacts) -> int:
    return max(int(one["probes"]) for one in facts.numbers["attacks"].values())


def _told(facts: HeadFacts, heads: Mapping[str, HeadFacts]) -> str:
    guard = facts.settings.get("guard")
    own, its = (one.numbers.get("attack_pairs", 0) if one else 0 for one in (facts, heads.get(str(guard))))
    words = [f"{own} negatives" if own else "", f"guard `{guard}` ({its} negatives)" if its else ""]
    return " and ".join(word for word in words if word) or "nothing"


def _given(numbers: Mapping[str, Any], name: str) -> str:
    return f"{numbers[name]:.3f}" if name in numbers else "-"


_COUNTS = {
    "train_pairs": "training pairs",
    "validation_pairs": "validation pairs",
    "pairs": "held-out pairs without ties",
    "attack_pairs": "of the training pairs lost by an attack",
    "annotators": "annotators",
    "tied_pairs": "ties",
    "rated_pairs": "pairs with a rating",
}


def _head_section(name: str, facts: HeadFacts) -> str:
    r = facts.numbers
    counts = ", ".join(f"{r[key]} {words}" for key, words in _COUNTS.items() if key in r)
    treatments = [(key, values) for one in facts.treatments for key, values in one.items()]
    treated = " then ".join(f"`{key}` {_settings(values)}" for key, values in treatments) or "none"
    notes = [f"{key} {r[key]}" for key in r if key.startswith(tuple(f"{name}_" for name, _ in treatments))]
    found = f" ({', '.join(notes)})" if notes else ""
    diagram = data_uri(reliability_diagram(f"Reliability of {name}", r.get("bins_before", ()), r["bins"]))
    return "\n".join(
        [
            f"## Head `{name}`",
            "",
            f"- Model `{facts.model}`: {summary(facts.model)}",
            f"- Settings: {_settings(facts.settings)}",
            f"- Data: {counts}",
            f"- Label treatments: {treated}{found}",
            f"- Temperature: {_given(r, 'temperature')}",
            "",
            f"![Reliability of {name}: accuracy over confidence, before (grey) and after (blue)]({diagram})",
            "",
        ]
    )


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value != {}) or "none to choose"
