"""A real Chromium, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from tiny_vote import wait_for

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage")


class Browser:
    """One page. Blocks until the browser has answered; text is read by people's eyes (``innerText``)."""

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        command = [PROGRAM, *OPTIONS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = int(wait_for(lambda: _read(profile / "DevToolsActivePort"), "the browser").split()[0])
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/json/list")
        pages = [one for one in json.loads(connection.getresponse().read()) if one["type"] == "page"]
        connection.close()
        self.socket = connect(pages[0]["webSocketDebuggerUrl"], max_size=None)
        self.sent = self.loads = 0
        self.requests: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)

    def send(self, method: str, **parameters: object) -> dict[str, Any]:
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while True:
            found = json.loads(self.socket.recv(timeout=30))
            if found.get("method") == "Network.responseReceived":
                self.requests.append(found["params"])
            self.loads += found.get("method") == "Page.loadEventFired"
            if found.get("id") == self.sent:
                assert "error" not in found, found
                return found["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url: str) -> None:
        self._load("Page.navigate", url=url)

    def reload(self) -> None:
        self._load("Page.reload")

    def _load(self, method: str, **parameters: object) -> None:
        before = self.loads
        self.send(method, **parameters)
        wait_for(lambda: self.run("true") and self.loads > before, "the page to load")

    def until(self, script: str) -> Any:
        """Wait for a JavaScript expression to be true."""
        return wait_for(lambda: self.run(script), script)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of an element, in CSS pixels of the window."""
        found = self.run(f"(r => [r.left, r.top, r.right, r.bottom])({_find(selector)}.getBoundingClientRect())")
        left, top, right, bottom = found
        return left, top, right, bottom

    def text(self, selector: str) -> str:
        """As people read it."""
        return str(self.run(f"{_find(selector)}.innerText"))

    def press(self, key: str) -> None:
        """A key, down and up, by its DOM name (``ArrowLeft``, ``t``)."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """The middle of an element, with the mouse."""
        left, top, right, bottom = self.box(selector)
        x, y = (left + right) / 2, (top + bottom) / 2
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def resize(self, width: int, height: int, mobile: bool = False) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.send("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def scheme(self, name: str) -> None:
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


def _read(file: Path) -> str:
    return file.read_text("utf-8") if file.is_file() else ""


def _find(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"
