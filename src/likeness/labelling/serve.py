"""``likeness vote``: read the candidates, open the record, serve the page until it is stopped."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import Field

from likeness.core.config import Config
from likeness.core.errors import ConfigError
from likeness.labelling.ballots import Ballots
from likeness.labelling.desk import Desk
from likeness.labelling.export import FILE, write_votes
from likeness.labelling.questions import digest_questions, read_questions
from likeness.labelling.record import Record
from likeness.labelling.server import make_app
from likeness.preferences.pairs import Kind

_LOCAL = ("127.0.0.1", "localhost")
_KEEP_ALIVE = 75  # seconds; people look at a pair for longer than uvicorn's five
_BACKLOG = 128
_GRACE = 5  # seconds that requests under way have at the end


class VoteConfig(Config):
    """``votes``: how many each pair should get. ``pairs_per_group``: pairs drawn of each prompt's candidates.

    ``kind``: what the vote is about. ``host``: address to listen on; anyone who reaches it may vote, under any name.
    ``port``: 0 for any that is free.
    """

    votes: int = Field(default=3, ge=1)
    pairs_per_group: int = Field(default=6, ge=1)
    seed: int = 0
    kind: Kind = "appeal"
    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65535)


def open_ballots(candidates: Path, out: Path, config: VoteConfig) -> Ballots:
    """The state of the vote in ``out``, new or as it was left.

    Raises:
        InputError: the candidates cannot be compared, or ``out`` is in use or about others.
    """
    questions = read_questions(candidates, out, config.pairs_per_group, config.seed)
    record = Record(out, digest_questions(questions, config.seed))
    return Ballots(questions, record, votes=config.votes, seed=config.seed)


def export(candidates: Path, out: Path, config: VoteConfig) -> str:
    """Write ``votes.jsonl`` without serving anything. Returns a line to print."""
    return _export(open_ballots(candidates, out, config), out, config)


def _export(ballots: Ballots, out: Path, config: VoteConfig) -> str:
    rows = ballots.rows(config.kind)
    ballots.record.close()
    write_votes(out, rows)
    return f"{len(rows)} votes in {out / FILE}"


def serve(candidates: Path, out: Path, config: VoteConfig, say: Callable[[str], None]) -> None:
    """Serve the page until SIGINT or SIGTERM, then write the export.

    Raises:
        ConfigError: the address cannot be had.
        InputError: see :func:`open_ballots`.
    """
    with listen(config) as listener:
        ballots = open_ballots(candidates, out, config)
        host, port = listener.getsockname()[:2]
        desk = Desk(ballots)
        app = make_app(desk, out, config.kind, [*_LOCAL] if host in _LOCAL else ["*"])
        say(f"{len(ballots.questions)} pairs, {config.votes} votes each: http://{host}:{port} (Ctrl-C to stop)")
        _run(app, listener)
    desk.close()
    say(_export(ballots, out, config))


def _run(app: FastAPI, listener: socket.socket) -> None:
    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    # uvicorn ends its requests, then raises the signal again: SIGTERM as well has to leave time for the export.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        asyncio.run(uvicorn.Server(settings).serve(sockets=[listener]))


def listen(config: VoteConfig) -> socket.socket:
    """A listening socket on the address.

    Raises:
        ConfigError: it is taken, or not of this machine.
    """
    # asyncio switches Nagle's delay off only where the protocol is named; with it every reply takes 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(_BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        where = f"{config.host}:{config.port}"
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"{where} is taken", remedy="stop what listens there, or give another --port") from None
        raise ConfigError(
            f"cannot listen on {where}: {error.strerror or error}", remedy="give a --host and --port of this machine"
        ) from None
