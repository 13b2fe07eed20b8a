"""`likeness registry …`: commands on the registry of record. Thin, as the rest of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

registry = typer.Typer(no_args_is_help=True, help="The registry of record: versions, channels, the audit log.")

StoreOption = Annotated[str, typer.Option(envvar="LIKENESS_REGISTRY", help="A folder, or s3://BUCKET/PREFIX.")]
ModelArgument = Annotated[str, typer.Argument(help="Name of the model.")]
VersionArgument = Annotated[int, typer.Argument(help="Number of the version.")]
VersionOption = Annotated[int | None, typer.Option(help="Number of the version; the live one by default.")]
ChannelOption = Annotated[str, typer.Option(help="Channel, such as candidate, staging or production.")]
ByOption = Annotated[str, typer.Option(envvar="LIKENESS_USER", help="Who does this, for the log.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the log.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Though its gate refused it; --by and --reason answer for it.")
]
STORE, CHANNEL, BY = "registry", "production", "unnamed"


@registry.command("list")
def list_(store: StoreOption = STORE) -> None:
    """List the models: versions, and where their channels point."""
    from likeness.registration.registry import Registry
    from likeness.registration.show import list_text

    known = list_text(Registry.open(store).state())
    typer.echo(known or f"nothing is registered in {store}; --store or LIKENESS_REGISTRY names another registry")


@registry.command()
def show(
    model: ModelArgument, version: VersionOption = None, channel: ChannelOption = CHANNEL, store: StoreOption = STORE
) -> None:
    """Show a version: figures, files, parent, code, signature."""
    from likeness.registration.registry import Registry
    from likeness.registration.show import pick, show_text

    opened = Registry.open(store)
    typer.echo(show_text(opened, pick(opened.state(), model, version, channel)))


@registry.command()
def history(model: ModelArgument, channel: ChannelOption = CHANNEL, store: StoreOption = STORE) -> None:
    """Show what was live in a channel, and who moved it."""
    from likeness.registration.registry import Registry
    from likeness.registration.show import history_text

    state = Registry.open(store).state()
    state.of_model(model)
    typer.echo(history_text(state.history(model, channel)))


@registry.command()
def add(
    name: ModelArgument,
    lora: Annotated[Path, typer.Argument(help="Folder of the model.")],
    decision: Annotated[Path, typer.Argument(help="Folder of the gate's decision about it.")],
    channel: ChannelOption = CHANNEL,
    force: ForceOption = False,
    by: ByOption = BY,
    reason: ReasonOption = "",
    store: StoreOption = STORE,
) -> None:
    """Register a model by hand, as the step `register` does; with --force one that its gate refused."""
    from likeness.registration.register import register
    from likeness.registration.registry import Registry

    forced = reason if force else None
    done = register(Registry.open(store), name, lora, decision, channel=channel, by=by, forced=forced)
    typer.echo(f"{name} version {done.version} is live in {channel}")


@registry.command()
def promote(
    model: ModelArgument,
    version: VersionArgument,
    channel: ChannelOption = CHANNEL,
    force: ForceOption = False,
    by: ByOption = BY,
    reason: ReasonOption = "",
    store: StoreOption = STORE,
) -> None:
    """Point a channel at a version."""
    from likeness.registration.registry import Registry

    move = Registry.open(store).promote(model, version, channel, by, forced=reason if force else None)
    typer.echo(f"{model} version {move.version} is live in {channel}")


@registry.command()
def rollback(
    model: ModelArgument,
    channel: ChannelOption = CHANNEL,
    by: ByOption = BY,
    reason: ReasonOption = "",
    store: StoreOption = STORE,
) -> None:
    """Point a channel back at the version that was live before."""
    from likeness.registration.registry import Registry

    move = Registry.open(store).rollback(model, channel, by, reason)
    typer.echo(f"{model} version {move.version} is live in {channel} again")


@registry.command()
def block(
    model: ModelArgument,
    version: VersionArgument,
    reason: Annotated[str, typer.Option(help="Why, for the log and for whoever asks for it.")],
    by: ByOption = BY,
    store: StoreOption = STORE,
) -> None:
    """Take a version out of use for good."""
    from likeness.registration.registry import Registry

    opened = Registry.open(store)
    opened.block(opened.state().version(model, version), reason, by)
    typer.echo(f"{model} version {version} is blocked")


@registry.command()
def sign(
    model: ModelArgument,
    version: VersionArgument,
    key: Annotated[Path, typer.Option(envvar="LIKENESS_SIGNING_KEY", help="Private EC key in PEM.")],
    by: ByOption = BY,
    store: StoreOption = STORE,
) -> None:
    """Sign a version's bundle with a private key."""
    from likeness.registration.registry import Registry

    opened = Registry.open(store)
    opened.sign(opened.state().version(model, version), key, by)
    typer.echo(f"{model} version {version} is signed")


@registry.command()
def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(help="Folder to write; of kohya also a .safetensors file.")],
    version: VersionOption = None,
    channel: ChannelOption = CHANNEL,
    form: Annotated[
        Literal["diffusers", "kohya"],
        typer.Option("--format", help="diffusers: the whole bundle; kohya: one file for ComfyUI and A1111."),
    ] = "diffusers",
    public_key: Annotated[
        Path | None, typer.Option(envvar="LIKENESS_VERIFY_KEY", help="Refuse what this key (PEM) did not sign.")
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Write a version's files, each checked."""
    from likeness.registration.formats import export as write
    from likeness.registration.registry import Registry
    from likeness.registration.show import pick

    opened = Registry.open(store)
    found = pick(opened.state(), model, version, channel)
    typer.echo(f"{found} is in {write(opened, found, out, form, public_key)}")


@registry.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="Head of the log as noted earlier; it has to be there still.")
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Check every entry of the log and every file of every version; exit code 1 if anything is wrong."""
    from likeness.registration.registry import Registry
    from likeness.registration.show import verify_lines

    opened = Registry.open(store)
    count = len(list(opened.state().all_versions()))
    if problems := list(verify_lines(opened, head)):
        typer.echo("\n".join(problems), err=True)
        raise typer.Exit(1)
    typer.echo(f"all whole: versions {count}, entries of the log {len(opened.log.entries)}")


@registry.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without, only show what would go.")] = False,
    by: ByOption = BY,
    store: StoreOption = STORE,
) -> None:
    """Find what no version needs: files of killed registrations, unfinished uploads older than a day."""
    from likeness.registration.collect import collect
    from likeness.registration.registry import Registry
    from likeness.registration.show import garbage_text

    typer.echo(garbage_text(collect(Registry.open(store), by, delete=yes), deleted=yes))


@registry.command()
def audit(
    last: Annotated[int, typer.Option(help="Only so many entries; 0 for all.")] = 0, store: StoreOption = STORE
) -> None:
    """Show the log, every entry checked, and its head."""
    from likeness.registration.registry import Registry
    from likeness.registration.show import audit_text

    opened = Registry.open(store)
    opened.state()
    typer.echo(audit_text(opened.log.entries[-last:], opened.log.head))


@registry.command("mirror")
def mirror_(
    addresses: Annotated[
        list[str],
        typer.Argument(
            envvar="LIKENESS_MIRRORS",
            help="mlflow[:URI], gto[:REPOSITORY] or kubeflow:URL; any number of them.",
            metavar="NAME[:LOCATION]...",
        ),
    ],
    store: StoreOption = STORE,
) -> None:
    """Bring other registries in step with this one, as often as you like; they decide nothing."""
    from likeness.registration.mirroring import MirrorError, mirror
    from likeness.registration.registry import Registry

    opened, failed = Registry.open(store), []
    for address in addresses:
        changes = 0
        try:
            for line in mirror(opened, address):
                typer.echo(f"{address}: {line}")
                changes += 1
        except MirrorError as error:
            failed.append(error)
            typer.echo(f"error: {error}", err=True)
        else:
            typer.echo(f"{address}: in step, {changes} changes")
    if failed:
        raise typer.Exit(1)
