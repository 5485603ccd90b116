"""The report, the page of trends and that of live traffic in a real browser: no request, no console message, accessible names, ordered headings, no sideways scrolling."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from redistill.report.page import render
from redistill.report.traffic import render_traffic
from redistill.report.trends import render_trends
from tests.browser.chromium import Browser
from tests.unit.report.sample_report import sample_tree
from tests.unit.report.sample_traffic import sample_traffic
from tests.unit.report.test_trends import FAILED, night

TITLES = {"report": "bank-triage: hold, version 7", "trends": "bank-triage: trends", "traffic": "bank-triage: live traffic"}
BREAKS_OUT = "<script>document.title = 'broken in'</script><img src=https://example.invalid/x.png>"


@pytest.fixture(scope="module", params=TITLES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    nights = [night(1), night(2, **{**FAILED, "sentence": BREAKS_OUT}), night(3, sentence=f"{'f' * 120}/summary.json is missing")]
    tree = sample_tree() | {"nights": nights}
    tree["examples"][0]["text"] = BREAKS_OUT
    file = tmp_path_factory.mktemp("report") / f"{request.param}.html"
    traffic = sample_traffic() | {"sentence": BREAKS_OUT}
    pages = {
        "report": lambda: render(tree),
        "trends": lambda: render_trends("bank-triage", nights, [None] * 3),
        "traffic": lambda: render_traffic(traffic),
    }
    file.write_text(pages[request.param](), encoding="utf-8")
    return file


def test_asks_for_nothing_and_says_nothing(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    urls = [r["request"]["url"] for r in browser.told("Network.requestWillBeSent")]
    assert page.as_uri() in urls and all(re.match(r"file:|data:", u) for u in urls), urls
    assert not browser.told("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert browser.evaluate("document.title") == TITLES[page.stem]


def test_every_plot_has_a_name(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    names = [n.get("name", {}).get("value", "") for n in nodes if n.get("role", {}).get("value") in ("image", "img", "graphics-document")]
    assert len(names) == browser.evaluate("document.querySelectorAll('svg, img').length") >= 4
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
