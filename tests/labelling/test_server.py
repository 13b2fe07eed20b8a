"""The real server over HTTP: what is served, what is refused, what stays."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from likeness.core.errors import LikenessError
from likeness.labelling.serve import VoteConfig, export, listen, serve
from tiny_vote import Server, exported, write_candidates

EVIL = "</p><script>document.title='pwned'</script>"
KEYS = ["prompt", "image_a", "image_b", "choice", "annotator", "first", "time", "group", "kind"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vote")
    with Server(
        write_candidates(folder / "candidates", [EVIL, "two"]), folder / "out", "--kind", "structure"
    ) as server:
        yield server


def test_a_vote_is_exported_with_its_keys_and_its_pictures(server: Server) -> None:
    offered = server.next("Zoë " + EVIL[:40])
    assert set(offered) == {"state", "offer", "prompt", "last", "progress"}
    left, right = server.pictures(offered["offer"])
    assert [server.vote(offered["offer"], "right")[0] for _ in range(3)] == [200] * 3
    (row,) = (row for row in server.export() if row["annotator"].startswith("Zoë"))
    assert list(row) == KEYS
    assert {row["image_a"], row["image_b"]} == {left, right}
    assert (row["image_a"] if row["first"] == "a" else row["image_b"]) == left
    assert (row["image_a"] if row["choice"] == "a" else row["image_b"]) == right
    assert all((server.out / file).is_file() for file in (left, right))
    assert row["prompt"] == offered["prompt"]
    assert row["group"] == ("0" if row["prompt"] == EVIL else "1")
    assert row["kind"] == "structure"
    assert abs((datetime.now(UTC) - datetime.fromisoformat(row["time"])).total_seconds()) < 60


def test_nothing_that_tells_the_pictures_apart_reaches_the_browser(server: Server) -> None:
    offered = server.next("blind")
    secrets = ["secret-model", *(file.name for file in (server.out / "images").iterdir())]
    assert not any(secret in str(offered) for secret in secrets)
    _, data = server.ask("GET", f"/api/offers/{offered['offer']}/left")
    assert not any(secret.encode() in data for secret in secrets)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/api/offers/0123456789abcdef/vote", {"choice": "left"}, 404),
        ("DELETE", "/api/offers/0123456789abcdef/vote", None, 404),
        ("GET", "/api/offers/0123456789abcdef/left", None, 404),
        ("GET", "/api/offers/..%2f..%2fvotes.sqlite/left", None, 404),
        ("GET", "/votes.sqlite", None, 404),
        ("POST", "/api/offers", {"annotator": "x" * 65}, 422),
        ("POST", "/api/offers", {"annotator": "x" * 1_000_000}, 422),
        ("POST", "/api/offers", {"annotator": " "}, 422),
        ("POST", "/api/offers", {"annotator": "\ud800"}, 422),
        ("POST", "/api/offers", {"annotator": 7}, 422),
        ("POST", "/api/offers", {"name": "anna"}, 422),
        ("POST", "/api/offers", [], 422),
        ("GET", "/api/offers", None, 405),
    ],
)
def test_a_wrong_request_is_json_that_says_so(
    server: Server, method: str, path: str, body: object, status: int
) -> None:
    found, said = server.ask(method, path, body)
    assert found == status
    assert isinstance(said["detail"], str)
    assert len(said["detail"]) < 300


def test_what_is_no_choice_or_comes_too_late_is_refused_and_changes_nothing(server: Server) -> None:
    offer = server.next("carl")["offer"]
    assert server.vote(offer, "up")[0] == 422
    assert server.undo(offer)[0] == 409
    assert server.next("carl")["offer"] == offer
    assert server.vote(offer, "left")[0] == 200
    assert server.vote(offer, "right")[0] == 409
    assert [server.undo(offer)[0] for _ in range(2)] == [200, 200]
    assert server.vote(offer, "left")[0] == 409
    assert not [row for row in server.export() if row["annotator"] == "carl"]


def test_another_sites_name_is_not_served(server: Server) -> None:
    assert server.ask("GET", "/", Host="evil.example")[0] == 400
    assert server.ask("GET", "/", Host=f"localhost:{server.port}")[0] == 200


def test_a_page_of_another_site_cannot_vote_unasked(server: Server) -> None:
    """Browsers ask first (preflight) for JSON and PUT; text, which they send unasked, is refused."""
    offer = server.next("dora")["offer"]
    preflight, _ = server.ask("OPTIONS", f"/api/offers/{offer}/vote", Origin="http://evil.example")
    assert preflight == 405
    plain = {"Content-Type": "text/plain"}
    assert server.ask("POST", "/api/offers", {"annotator": "dora"}, **plain)[0] == 422


def test_a_taken_port_is_one_message(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "likeness.cli", "vote", server.candidates, tmp_path, "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"127.0.0.1:{server.port} is taken" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_mistakes_at_the_start_have_a_remedy(server: Server, tmp_path: Path) -> None:
    for folder, out, host, said in [
        (tmp_path, tmp_path / "out", "127.0.0.1", r"manifest\.json"),
        (server.candidates, server.out, "127.0.0.1", "in use by another"),
        (server.candidates, tmp_path / "out", "192.0.2.1", "cannot listen on 192"),
    ]:
        with pytest.raises(LikenessError, match=said):
            serve(folder, out, VoteConfig(port=0, host=host), print)


def test_replies_do_not_wait_for_the_acknowledgement_of_their_head() -> None:
    """uvicorn sends head and body apart; asyncio sets TCP_NODELAY on connections of a listener that names TCP."""
    with listen(VoteConfig(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_stopping_writes_the_export_and_a_restart_goes_on(tmp_path: Path) -> None:
    with Server(write_candidates(tmp_path / "candidates", ["one"]), tmp_path / "out") as server:
        server.vote(server.next("anna")["offer"], "left")
        waiting = server.next("anna")
        assert "1 votes in" in server.stop(signal.SIGINT)
        assert [row["annotator"] for row in exported(server.out)] == ["anna"]
        server.start()
        assert server.next("anna") == waiting
        server.vote(waiting["offer"], "tie")
        server.stop(signal.SIGTERM)
    assert [row["choice"] for row in exported(server.out)][1:] == ["tie"]
    assert server.process.returncode == 0
    (server.out / "votes.jsonl").unlink()
    assert export(server.candidates, server.out, VoteConfig()).startswith("2 votes")
    assert len(exported(server.out)) == 2
