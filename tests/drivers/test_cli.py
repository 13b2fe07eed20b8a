"""Every mistake is one message with a remedy on stderr, exit code 2, and nothing half-written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from likeness.cli import app
from likeness.core.errors import ConfigError
from likeness.core.io import digest_path, write_json

GATHER = ["run", "gather@1", "--bind", "photos=photos", "--bind", "images=out/images", "--metrics", "out/metrics.json"]


def likeness(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["likeness", *arguments], capture_output=True, text=True, check=False)


def test_run_writes_outputs_and_metrics(workspace: Path) -> None:
    done = likeness(*GATHER)
    assert done.returncode == 0, done.stderr
    assert len(list(Path("out/images").glob("*.png"))) == 6
    assert "kept: 6" in done.stdout
    assert Path("out/metrics.json").is_file()


def test_the_section_may_be_given_as_json(workspace: Path) -> None:
    for name, arguments in {"file": [], "json": ["--config", '{"seed": 3, "keep": 0.6}']}.items():
        done = likeness(*replaced("out/", f"{name}/"), *arguments)
        assert done.returncode == 0, done.stderr
    assert digest_path(Path("file")) == digest_path(Path("json"))


def replaced(old: str, new: str) -> list[str]:
    return [argument.replace(old, new) for argument in GATHER]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (replaced("gather@1", "gahter"), "did you mean 'gather'"),
        (replaced("gather@1", "gather@9"), "likeness generate"),
        (replaced("=photos", "=nowhere"), "nowhere"),
        (replaced("photos=", "fotos="), "did you mean 'photos'"),
        ([*GATHER, "--bind", "nonsense"], "port=path"),
        ([*GATHER, "--bind", "photos=twice"], "repeats a port"),
        ([*GATHER, "--section", "gathre"], "did you mean 'gather'"),
        ([*GATHER, "--params", "absent.yaml"], "absent.yaml"),
        ([*GATHER, "--config", "{keep: 0.6}"], "--config is not JSON"),
        ([*GATHER, "--config", "[0.6]"], "must be a JSON object"),
        ([*GATHER, "--config", '{"kepe": 0.6}'], "did you mean 'keep'"),
        (GATHER[:4], "--bind images=PATH"),
        (["recipes", "rfl"], "did you mean 'refl'"),
        (["recipes", "harmonic"], "did you mean 'harmonic_labels'"),
        (["run-pipeline", "--driver", "airflow"], "use one of: dvc"),
        (["run-pipeline", "--profile", "portrait"], "did you mean 'portraits'"),
        (["show", "decision", "--root", "never"], "never/gate/decision"),
        (["submit", "--host", "http://localhost:1", "--package", "none.yaml"], "likeness compile"),
        (["retrain", "--cron", "0 3 * * *"], "prefect server start"),
    ],
)
def test_a_mistake_is_one_message(workspace: Path, arguments: list[str], said: str) -> None:
    done = likeness(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("out").exists()


def test_a_misspelt_key_is_named_with_the_nearest(workspace: Path) -> None:
    params = Path("params.yaml")
    params.write_text(params.read_text("utf-8").replace("keep: 0.6", "kepe: 0.6"), "utf-8")
    done = likeness(*GATHER)
    assert done.returncode == 2
    assert "unknown key 'kepe': did you mean 'keep' or" in done.stderr
    assert not Path("out").exists()


def test_a_full_disk_is_reported_and_leaves_nothing(workspace: Path) -> None:
    """/dev/full refuses every byte with ENOSPC: the metrics file is where it hurts here."""
    Path("out").mkdir()
    Path("out/metrics.json.incomplete").symlink_to("/dev/full")
    done = likeness("run", "gather@1", *GATHER[2:-1], "/dev/full/metrics.json")
    assert done.returncode == 2
    assert "cannot finish" in done.stderr
    assert "Traceback" not in done.stderr


def test_show_decision_says_verdict_reasons_version_and_report(workspace: Path) -> None:
    reason = {"rule": "r", "metric": "identity", "passed": False, "text": "identity fell by 0.1 [0.05, 0.15]"}
    write_json(
        Path("root/gate/decision/decision.json"), {"passed": False, "baseline": "incumbent", "reasons": [reason]}
    )
    write_json(Path("root/register/registration/registration.json"), {"status": "refused"})
    done = likeness("show", "decision", "--root", "root")
    assert done.returncode == 0, done.stderr
    assert "gate: REFUSED (against the incumbent)" in done.stdout
    assert "[NO] identity fell by 0.1" in done.stdout
    assert "the gate refused" in done.stdout


def test_what_a_recipe_shows_is_a_section_that_the_step_takes() -> None:
    """Every value that is printed, given back by hand, makes the same run."""
    from likeness.training.plan import RECIPES

    shown = likeness("recipes", "draft_lv").stdout
    assert "2309.17400" in shown
    given = yaml.safe_load(shown.partition("Settings (smoke-tested):")[2])
    recipe = RECIPES.get("draft_lv")
    assert recipe.plan(given) == recipe.plan()
    assert given["rewards"] == recipe.settings["rewards"]


def test_consent_is_granted_listed_and_withdrawn_in_words(tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        return CliRunner().invoke(app, ["consent", *arguments], catch_exceptions=False).output

    ledger = str(tmp_path / "consent")
    scopes = ["--scope", "train", "--scope", "evaluate"]
    dates = ["--granted", "2026-01-01", "--expires", "2027-01-01"]
    assert said("grant", ledger, "ada", "--id", "c1", *scopes, *dates) == "granted: c1\n"
    listed = said("list", ledger).splitlines()
    assert listed[0] == "c1  ada  train+evaluate  from 2026-01-01 until 2027-01-01"
    assert said("withdraw", ledger, "ada") == "withdrawn: c1\n"
    assert "nothing of 'ada' stands" in said("withdraw", ledger, "ada")
    assert ", withdrawn 20" in said("list", ledger)
    with pytest.raises(ConfigError, match=r"'scope\.0' = 'all'"):
        said("grant", ledger, "bob", "--scope", "all")
