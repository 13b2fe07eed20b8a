"""The page in a real browser: voting by keys, blind, resumed after a reload, unharmed by what others wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from browser import PROGRAM, Browser
from tiny_vote import Server, write_candidates

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine (apt-get install chromium)")
EVIL = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
READY = "!busy && !document.querySelector('#pair').hidden"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vote")
    with Server(
        write_candidates(folder / "candidates", [EVIL, "two"], each=3), folder / "out", "--votes", "99"
    ) as found:
        yield found


def begin(browser: Browser, server: Server, name: str) -> None:
    """As somebody new: nothing kept by the browser, the name typed."""
    browser.open(server.url)
    browser.run("localStorage.clear()")
    browser.open(server.url)
    browser.until("document.activeElement && document.activeElement.id === 'annotator'")
    browser.type(name)
    browser.click("#name button")
    browser.until(READY)


def press(browser: Browser, key: str) -> str:
    """A key that changes the offer; returns the offer it was about."""
    before = browser.run("offer")
    browser.press(key)
    browser.until(f"!busy && offer !== {json.dumps(before)}")
    return str(before)


def votes(server: Server, name: str) -> list[dict[str, Any]]:
    return [row for row in server.export() if row["annotator"] == name]


def test_every_key_does_what_the_help_says(browser: Browser, server: Server) -> None:
    begin(browser, server, "anna")
    seen = []
    for key in ("ArrowLeft", "2", "t", "s"):
        seen.append(server.pictures(browser.run("offer")))
        press(browser, key)
    rows = votes(server, "anna")
    chosen = [{"a": row["image_a"], "b": row["image_b"], "tie": "tie"}[row["choice"]] for row in rows]
    assert chosen == [seen[0][0], seen[1][1], "tie"]
    press(browser, "u")  # the skip
    press(browser, "Backspace")  # the tie
    assert len(votes(server, "anna")) == 2
    assert server.pictures(browser.run("offer")) == seen[2]
    for key in ("ArrowRight", "1", "0", "1"):
        press(browser, key)
    assert browser.text("#end").startswith("Thank you, that was the last pair")
    assert len(votes(server, "anna")) == 6
    press(browser, "u")
    browser.until(READY)
    assert len(votes(server, "anna")) == 5


def test_a_reload_and_a_restart_of_the_server_go_on_where_one_stopped(browser: Browser, server: Server) -> None:
    begin(browser, server, "ben")
    press(browser, "1")
    offer = browser.run("offer")
    browser.reload()
    browser.until(f"{READY} && offer === {offer!r}")
    assert browser.run("location.search") == "?annotator=ben"
    assert browser.text("#yours") == "ben: 1 voted, 5 left"
    assert browser.run("document.querySelector('#bar').value / document.querySelector('#bar').max") == 1 / 6
    browser.open(server.url)  # without the name in the URL: the browser kept it
    browser.until(f"{READY} && offer === {offer!r}")
    server.kill()
    browser.press("2")
    browser.until("!document.querySelector('#notice').hidden")
    server.start()
    browser.until(f"{READY} && offer !== {offer!r}")
    assert browser.run("document.querySelector('#notice').hidden")
    assert [row["choice"] == row["first"] for row in votes(server, "ben")] == [True, False]


def test_a_held_key_and_keys_of_the_browser_vote_on_nothing(browser: Browser, server: Server) -> None:
    begin(browser, server, "caro")
    browser.send("Input.dispatchKeyEvent", type="rawKeyDown", key="ArrowLeft", autoRepeat=True)
    browser.send("Input.dispatchKeyEvent", type="rawKeyDown", key="ArrowLeft", modifiers=1)
    browser.press("?")
    browser.until("document.querySelector('#help').open")
    browser.press("1")
    browser.run("document.querySelector('#help').close()")
    assert not votes(server, "caro")


def test_the_page_is_blind_and_self_contained(browser: Browser, server: Server) -> None:
    browser.requests.clear()
    begin(browser, server, "dora")
    text = browser.run("document.documentElement.outerHTML")
    addresses = [one["response"]["url"] for one in browser.requests]
    heads = str([one["response"]["headers"] for one in browser.requests])
    assert browser.run("left.src.endsWith(`/${offer}/left`) && right.src.endsWith(`/${offer}/right`)")
    assert sum("/api/offers/" in address for address in addresses) >= 2
    assert all(address.startswith((server.url, "data:")) for address in addresses)
    for secret in ["secret-model", *(file.stem for file in (server.out / "images").iterdir())]:
        assert secret not in text
        assert secret not in heads
        assert not any(secret in address for address in addresses)


def test_who_sees_which_picture_on_the_left_is_drawn_for_each_annotator(browser: Browser, server: Server) -> None:
    """Six people on six pairs; and what the export calls first is what their browser showed on the left."""
    digest = """fetch(left.src).then(reply => reply.arrayBuffer()).then(data => crypto.subtle.digest("SHA-256", data))
        .then(sum => Array.from(new Uint8Array(sum), byte => byte.toString(16).padStart(2, "0")).join(""))"""
    for name in map("person {}".format, range(6)):
        begin(browser, server, name)
        seen = [f"images/{browser.run(digest)}.png"]
        press(browser, "t")
        seen.append(f"images/{browser.run(digest)}.png")
        press(browser, "t")
        assert [row[f"image_{row['first']}"] for row in votes(server, name)] == seen
    rows = [row for row in server.export() if row["annotator"].startswith("person ")]
    assert len({(row["image_a"], row["image_b"], row["first"]) for row in rows}) > len(
        {(row["image_a"], row["image_b"]) for row in rows}
    )


def test_what_prompts_and_names_hold_is_shown_and_never_run(browser: Browser, server: Server) -> None:
    begin(browser, server, EVIL[:64])
    shown = set()
    for _ in range(5):
        shown.add(browser.text("#prompt"))
        press(browser, "1")
    assert EVIL in shown
    assert browser.text("#yours b") == EVIL[:64]
    assert browser.run("document.title") == "Which picture is better?"
    # And were the text ever put into the page as HTML, the policy would not let it run.
    browser.run(f"document.body.insertAdjacentHTML('beforeend', {EVIL!r})")
    browser.run("new Promise(done => setTimeout(done, 100))")
    assert browser.run("document.title") == "Which picture is better?"


@pytest.mark.parametrize(("width", "height", "mobile"), [(1280, 800, False), (390, 844, True), (320, 568, True)])
def test_everything_fits_beside_each_other(
    browser: Browser, server: Server, width: int, height: int, mobile: bool
) -> None:
    browser.resize(width, height, mobile)
    begin(browser, server, f"width {width}")
    boxes = {one: browser.box(one) for one in ("#left", "#right", "[data-undo]", "#tie")}
    assert boxes["#left"][1] == boxes["#right"][1]
    assert boxes["#left"][2] <= boxes["#right"][0]
    for side in ("#left", "#right"):
        assert boxes[side][2] - boxes[side][0] > 0.38 * width
    assert all(left >= 0 and right <= width and bottom <= height for left, _, right, bottom in boxes.values())
    assert browser.run("document.documentElement.scrollWidth") <= width
