"""What the report says, section by section, from the artefacts' own records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from likeness.evaluation.report.charts import counts, curve, difference_bar, lineage_graph, number
from likeness.evaluation.report.page import card, section, table

_LABELS = {"base": "base", "candidate": "tuned", "incumbent": "live version"}
_HEADLINES = {
    "identity": "likeness to the subject (held-out judge)",
    "prompt_fidelity": "prompt fidelity (oracle)",
    "face_detected": "pictures with a face",
}
_TRAINING_CHARTS = 12


def headline(decision: Mapping[str, Any], registration: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The verdict, what was registered, and the figures most asked for."""
    passed = bool(decision["passed"])
    failed = sum(not reason["passed"] for reason in decision["reasons"])
    if registration["status"] == "registered":
        fate = f"Registered as version {registration['version']} of {registration.get('name', 'the model')}"
    else:
        fate = f"Not registered: {failed} of {len(decision['reasons'])} rules failed"
    cards = [
        card(label, _arrow(summary, name), _spread(summary["paired"][name]))
        for name, label in _HEADLINES.items()
        if name in summary["paired"]
    ]
    wins = summary.get("win_rate", {}).get("aesthetic")
    if wins:
        note = f"[{wins['ci_low']:.2f}, {wins['ci_high']:.2f}], {wins['n']} prompts"
        cards.append(card("aesthetic win rate (held-out judge)", f"{100 * wins['mean']:.0f} %", note))
    tone, word = ("pass", "PASSED") if passed else ("fail", "REFUSED")
    return (
        f'<header class="{tone}"><span class="verdict">{word}</span><h1>{escape(fate)}</h1>'
        f"<p class='soft'>Compared with the {escape(_LABELS[decision['baseline']])} model on equal prompts and seeds. "
        f"{_looks(decision.get('looks'))}Model <code>{decision['candidate_digest'][:12]}</code></p>"
        f'<div class="cards">{"".join(cards)}</div></header>'
    )


def _looks(looks: Mapping[str, Any] | None) -> str:
    """How many of the planned prompts it took, where it could have taken fewer."""
    if not looks or len(looks["planned"]) == 1:
        return ""
    used, planned = looks["planned"][looks["reached"]], looks["planned"][-1]
    times = f"Looked {looks['reached'] + 1} of {len(looks['planned'])} times"
    return f"{times}, {used} of {planned} prompts: {escape(looks['why'])}. "


def _arrow(summary: Mapping[str, Any], name: str) -> str:
    metric = summary["metrics"][name]
    return f"{metric[summary['baseline']]['mean']:.3f} \u2192 {metric['candidate']['mean']:.3f}"


def _spread(paired: Mapping[str, float]) -> str:
    return f"{paired['difference']:+.3f} [{paired['ci_low']:+.3f}, {paired['ci_high']:+.3f}]"


def reasons(decision: Mapping[str, Any]) -> str:
    """Each rule with its figures, failures first."""
    ordered = sorted(decision["reasons"], key=lambda reason: bool(reason["passed"]))
    lines = [f'<li class="{"ok" if r["passed"] else "no"}"><span>{_reason(r)}</span></li>' for r in ordered]
    return section("The gate's decision, rule by rule", f'<ul class="reasons">{"".join(lines)}</ul>')


def _reason(reason: Mapping[str, Any]) -> str:
    """Its sentence, and how small a difference this evaluation could have let pass."""
    power, text = reason.get("detectable"), escape(reason["text"])
    if power is None:
        return text
    return f'{text}<br><small class="soft">a true difference of {power:+.3f} would pass four times in five</small>'


def sets(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Distances and diversity of whole variants."""
    ordered = [v for v in _LABELS if any(v in variants for variants in found.values())]
    rows = []
    for name, variants in found.items():
        about = next(iter(variants.values()))["about"]
        what = f"<b>{escape(name)}</b><br><small>{escape(about['summary'])} ({escape(about['unit'])})</small>"
        rows.append([what, *(_set_cell(variants.get(v)) for v in ordered)])
    note = (
        '<p class="soft">Of all pictures together, on the features of the encoder that judges; basic bootstrap '
        "intervals, which take the small sample's bias away and may lie beside the plain value. Who is drawn where no "
        "subject is named is told by faces; operations and bytes are counted.</p>"
    )
    return section("Whole sets", note, table(["metric", *(_LABELS[v] for v in ordered)], rows)) if rows else ""


def _set_cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    if entry["ci_low"] == entry["ci_high"]:
        return number(entry["value"])
    return f"{number(entry['value'])}<br><small>[{number(entry['ci_low'])}, {number(entry['ci_high'])}]</small>"


def metrics(summary: Mapping[str, Any]) -> str:
    """Every metric of every variant, and the paired difference of the tuned model."""
    variants = summary["variants"]
    ordered = [v for v in _LABELS if v in variants]
    rows = []
    for name, values in summary["metrics"].items():
        about, paired = summary["about"][name], summary["paired"][name]
        cells = [f"<b>{escape(name)}</b><br><small>{escape(about['summary'])} ({escape(about['unit'])})</small>"]
        cells += [_cell(values[variant]) for variant in ordered]
        photos = summary["photos"].get(name)
        cells.append("" if photos is None else number(photos))
        interval = f"<br><small>[{paired['ci_low']:+.3f}, {paired['ci_high']:+.3f}]</small>"
        cells.append(f"{paired['difference']:+.3f}{interval}")
        cells.append(difference_bar(paired["ci_low"], paired["difference"], paired["ci_high"], about["direction"]))
        rows.append(cells)
    head = [
        "metric",
        *(_LABELS[v] for v in ordered),
        "photographs",
        f"tuned &minus; {_LABELS[summary['baseline']]}",
        "",
    ]
    note = (
        f'<p class="soft">Means with {100 * summary["confidence"]:g} % bootstrap intervals over prompts; differences '
        "are paired by prompt and seed. Green or red: the interval excludes zero.</p>"
    )
    return section("Metrics", note, table(head, rows))


def _cell(entry: Mapping[str, float]) -> str:
    return f"{number(entry['mean'])}<br><small>[{number(entry['ci_low'])}, {number(entry['ci_high'])}]</small>"


def training(record: Mapping[str, Any]) -> str:
    """Reward and loss curves of the tuned LoRA, rewards first."""
    found = record.get("curves", {})
    steps = found.get("step", [])
    named = sorted((n for n in found if n != "step"), key=lambda n: (not n.startswith("reward"), n))
    charts = [curve(n.replace("/", ": "), steps, found[n]) for n in named[:_TRAINING_CHARTS] if steps]
    recipe = f'<p class="soft">Recipe <b>{escape(str(record.get("recipe", "unknown")))}</b>. Cost: {_cost(record)}.</p>'
    return section("Training", recipe, f'<div class="charts">{"".join(charts)}</div>' if charts else "")


def _cost(record: Mapping[str, Any]) -> str:
    """What was counted, the operations of a gradient sample, and what each reward gained for them."""
    parts = [f"{value:,} {name.replace('_', ' ')}" for name, value in sorted(record.get("counts", {}).items())]
    cost = record.get("cost", {})
    if "tflop" in cost:
        parts += [f"{number(cost['tflop'])} TFLOP", f"{number(cost['tflop_per_sample'])} TFLOP a gradient sample"]
    gained = [f"{name} {value:+.3f}" for name, value in sorted(cost.get("reward_gained_per_tflop", {}).items())]
    return escape(", ".join(parts) + (f"; rewards gained per TFLOP: {', '.join(gained)}" if gained else ""))


def data(facts: Mapping[str, int], licences: Mapping[str, int], quarantine: Mapping[str, int], docs: str) -> str:
    """Counts, why pictures were set aside, licences, and the data contract's own page."""
    left = f"<h3>Pictures</h3>{counts(facts)}<h3>Licences of the training pictures</h3>{counts(licences)}"
    right = f"<h3>Quarantined, by rule</h3>{counts(quarantine)}" if quarantine else ""
    page = (
        "<details><summary>Data contract (great_expectations)</summary>"
        f'<iframe sandbox title="data contract" srcdoc="{escape(docs, quote=True)}"></iframe></details>'
    )
    return section("Data", f'<div class="two"><div>{left}</div><div>{right}</div></div>', page if docs else "")


def preferences(
    pairs: Mapping[str, int],
    annotators: tuple[int, int],
    quarantine: Mapping[str, int],
    models: Mapping[str, Mapping[str, Any]],
) -> str:
    """Where the taste came from, what was set aside, and how well reward and judge know it on pairs they never saw.

    ``annotators``: how many there are, and how many of them voted in both folds.
    """
    rows = []
    for fold, record in models.items():
        for kind, numbers in record.items():
            span = f"[{numbers['accuracy_low']:.3f}, {numbers['accuracy_high']:.3f}]"
            accuracy = f"{numbers['accuracy']:.3f} <small>{span}</small>"
            error = f"{numbers['calibration_error']:.3f}"
            sizes = [str(numbers["train_pairs"]), str(numbers["pairs"])]
            rows.append([escape(fold), escape(kind), accuracy, error, *sizes, _fooled(numbers.get("attacks", {}))])
    head = [
        "model",
        "head",
        "accuracy on held-out pairs",
        "calibration error",
        "training pairs",
        "test pairs",
        "fooled",
    ]
    everyone, both = annotators
    share = f"{both} of them voted for both, on different prompts" if both else "reward and judge share none of them"
    note = (
        f'<p class="soft">{everyone} annotators; {share}. Reward and judge share no pairs. Fooled: by the attack that '
        "fools it most, how often it prefers a picture that earns nothing to an honest one.</p>"
    )
    left = f"<h3>Pairs</h3>{counts(pairs)}"
    right = f"<h3>Set aside, by reason</h3>{counts(quarantine)}" if quarantine else ""
    return section(
        "Preferences", note, f'<div class="two"><div>{left}</div><div>{right}</div></div>', "<br>", table(head, rows)
    )


def _fooled(attacks: Mapping[str, Mapping[str, float]]) -> str:
    if not attacks:
        return ""
    worst = max(attacks, key=lambda name: attacks[name]["rate"])
    return f"{attacks[worst]['rate']:.2f} <small>({escape(worst)})</small>"


def provenance(
    nodes: Mapping[str, Mapping[str, object]] | None, registration: Mapping[str, Any], card_text: Sequence[str]
) -> str:
    """The graph that led here, the registered version, and licences."""
    graph = lineage_graph(nodes) if nodes else "<p>No lineage: the steps were called by hand.</p>"
    digest = str(registration.get("manifest_digest") or "none")
    place = (
        f"<p>Registry <code>{escape(str(registration['store']))}</code>, status {escape(str(registration['status']))}"
    )
    version = (
        f", version {registration['version']}, manifest <code>{digest[:12]}</code>" if registration["version"] else ""
    )
    lines = "".join(f"<li>{escape(line)}</li>" for line in card_text)
    licences = f"<h3>Licences of what the model is made of</h3><ul>{lines}</ul>" if lines else ""
    return section("Lineage and registration", f"{place}{version}.</p>", graph, licences)
