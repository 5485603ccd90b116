"""Chromium over its DevTools protocol, so that what is checked is what the browser computed, not what the HTML says."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0",
]  # fmt: skip
_DEADLINE_S = 60


class Browser:
    """One Chromium with one page, and every event that it told."""

    def __init__(self, profile: Path) -> None:
        connect = pytest.importorskip("websockets.sync.client").connect
        self.process = subprocess.Popen(
            [str(CHROMIUM), *_FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port_file = profile / "DevToolsActivePort"
        _wait(lambda: port_file.is_file() and port_file.read_text(encoding="utf-8").count("\n") >= 1, self.process)
        port, path = port_file.read_text(encoding="utf-8").split("\n")[:2]
        self.socket = connect(f"ws://127.0.0.1:{port}{path}", proxy=None, max_size=None)
        self.ids, self.events, self.session = itertools.count(1), list[dict[str, Any]](), None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.ids)
        session = {"sessionId": self.session} if self.session else {}
        self.socket.send(json.dumps({"id": number, "method": method, "params": params, **session}))
        while True:
            message = json.loads(self.socket.recv(timeout=_DEADLINE_S))
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self.events.append(message)

    def open(self, page: Path, width: int, scheme: str = "light") -> None:
        self.open_address(page.as_uri(), width, scheme)

    def open_address(self, address: str, width: int = 1280, scheme: str = "light") -> None:
        """Open a page and wait until it is loaded; what scripts of it fetch later is waited for with ``wait_for``."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=address)
        scheme_of_address = address.partition(":")[0] + ":"
        _wait(
            lambda: self.evaluate("document.readyState") == "complete" and self.evaluate("location.protocol") == scheme_of_address,
            self.process,
        )

    def wait_for(self, *texts: str) -> str:
        """Wait until the page shows all texts; returns what it shows."""
        shown = "document.body ? document.body.innerText : ''"
        _wait(
            lambda: all(text.lower() in str(self.evaluate(shown)).lower() for text in texts),
            self.process,
            lambda: str(self.evaluate(shown))[:2000],
        )
        return str(self.evaluate(shown))

    def evaluate(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def told(self, *methods: str) -> list[dict[str, Any]]:
        return [e["params"] for e in self.events if e.get("method") in methods]

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=self._whole())["data"]))

    def _whole(self) -> dict[str, float]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=_DEADLINE_S)


def _wait(condition: Any, process: subprocess.Popen[bytes], seen: Any = lambda: "") -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert process.poll() is None, "chromium ended early"
        assert time.monotonic() < deadline, f"chromium did not get there in time; the page shows: {seen()}"
        time.sleep(0.05)
