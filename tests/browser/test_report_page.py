"""The report in a real browser: no request, no console message, accessible names, ordered headings, no sideways scrolling.

Chromium is driven over its DevTools protocol, so that what is checked is what the browser computed, not what the HTML says.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redistill.report.page import render
from tests.unit.report.sample_report import sample_tree

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0",
]  # fmt: skip
_DEADLINE_S = 60

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; apt-get install chromium")


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
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=page.as_uri())
        _wait(lambda: self.evaluate("document.readyState") == "complete" and self.evaluate("location.protocol") == "file:", self.process)

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


def _wait(condition: Any, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert process.poll() is None, "chromium ended early"
        assert time.monotonic() < deadline, "chromium did not get there in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = sample_tree()
    tree["examples"][0]["text"] = "<script>document.title = 'broken in'</script><img src=https://example.invalid/x.png>"
    file = tmp_path_factory.mktemp("report") / "index.html"
    file.write_text(render(tree), encoding="utf-8")
    return file


def test_asks_for_nothing_and_says_nothing(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    urls = [r["request"]["url"] for r in browser.told("Network.requestWillBeSent")]
    assert page.as_uri() in urls and all(re.match(r"file:|data:", u) for u in urls), urls
    assert not browser.told("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert browser.evaluate("document.title") == "bank-triage: hold, version 7"


def test_every_plot_has_a_name(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    names = [n.get("name", {}).get("value", "") for n in nodes if n.get("role", {}).get("value") in ("image", "img", "graphics-document")]
    assert len(names) == browser.evaluate("document.querySelectorAll('svg, img').length") >= 5
    assert all(len(name) > 20 for name in names), names


def test_headings_are_ordered(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    levels = browser.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels)), levels


@pytest.mark.parametrize("width", [390, 1280])
def test_page_does_not_scroll_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrasts_with_its_background(browser: Browser, page: Path, scheme: str) -> None:
    """WCAG AA asks for 4.5; the colours behind a text are those of its nearest opaque ancestor."""
    browser.open(page, 1280, scheme)
    weak = browser.evaluate("""(() => {
      const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b; };
      const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)|transparent/.test(c)) return c; } };
      return [...document.querySelectorAll('body *:not(title)')].filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
        const style = getComputedStyle(e), ink = e.closest('svg') ? style.fill : style.color, [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
        return [e.tagName + '.' + e.getAttribute('class'), (a + .05) / (b + .05)]; }).filter(([, ratio]) => !(ratio >= 4.5)); })()""")
    assert weak == []
