"""The flag from one address: a real static server that stops, comes back, and serves what is no flag."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from redistill.errors import ConfigError
from redistill.params import load_params
from redistill.serving.route_flag import FLAG, flag_file, read_route
from redistill.serving.router.flag_over_http import FlagOverHttp
from redistill.serving.types import Route
from tests.servers import free_port, stop, until

STUDENT = Route("none", "student", "7", "version 7 was promoted", "2026-11-22T02:00:00+00:00")


def flag(revision: int, version: str = "7") -> bytes:
    tree: dict[str, Any] = flag_file(Route("none", "student", version, "promoted", "2026-11-22T02:00:00+00:00"))
    tree["flags"][FLAG]["metadata"]["revision"] = revision
    return json.dumps(tree).encode()


class Static:
    """A static server of a folder, as a process of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.port = folder, free_port()
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "http.server", str(self.port), "--bind", "127.0.0.1", "--directory", str(self.folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        until(f"http://127.0.0.1:{self.port}/", timeout_s=30, process=self.process)

    def stop(self) -> None:
        stop(self.process)

    def write(self, content: bytes, name: str = "flags.json") -> str:
        (self.folder / f".{name}.new").write_bytes(content)
        (self.folder / f".{name}.new").replace(self.folder / name)
        return f"http://127.0.0.1:{self.port}/{name}"


@asynccontextmanager
async def reading(url: str, file: Path, max_age_s: float) -> AsyncIterator[None]:
    task = asyncio.create_task(FlagOverHttp(url, file, max_age_s).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def wait(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    deadline = asyncio.get_running_loop().time() + limit_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


def test_a_server_that_stops_and_comes_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server, file = Static(tmp_path / "served"), tmp_path / "flags.json"
    url = server.write(flag(1))

    async def story() -> None:
        async with reading(url, file, max_age_s=3.0):
            await wait(file.is_file)
            assert read_route(file).model_version == "7"
            server.write(flag(2, "8"))
            await wait(lambda: read_route(file).model_version == "8")
            server.stop()
            await wait(lambda: "cannot be used" in said(capfd))
            assert read_route(file).model_version == "8", "the last flag holds for a short time"
            await wait(lambda: not file.exists())
            assert read_route(file).answers == "teacher"
            server.write(flag(3, "9"))
            server.start()
            await wait(lambda: read_route(file).model_version == "9")

    try:
        asyncio.run(story())
    finally:
        server.stop()
    lines = said(capfd)
    assert "the last one holds for 3 s" in lines and "the teacher answers now" in lines and "is read again" in lines
    assert lines.count("cannot be used") == 1, "one line for an outage, not one for each question"


_LINES: list[str] = []


def said(capfd: pytest.CaptureFixture[str]) -> str:
    """What was said so far."""
    _LINES.append(capfd.readouterr().err)
    return "".join(_LINES)


@pytest.fixture(autouse=True)
def no_lines() -> None:
    _LINES.clear()


BAD = {
    "half written": (flag(5)[:100], "flags.json", "no whole flag"),
    "empty": (b"", "flags.json", "no whole flag"),
    "contradicts itself": (
        flag(5).replace(b'"defaultVariant": "student"', b'"defaultVariant": "cascade"'),
        "flags.json",
        "contradicts itself",
    ),
    "older": (flag(2, "6"), "flags.json", "revision 2, older than revision 4"),
    "too large": (flag(5) + b" " * (1 << 20), "flags.json", "larger than"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_flag_is_not_taken_and_does_not_last(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content, name, reason = BAD[case]
    server, file = Static(tmp_path / "served"), tmp_path / "flags.json"
    url = server.write(flag(4), name)

    async def story() -> None:
        async with reading(url, file, max_age_s=2.0):
            await wait(file.is_file)
            server.write(content, name)
            await wait(lambda: reason in said(capfd))
            assert read_route(file).model_version == "7"
            await wait(lambda: not file.exists())
            server.write(flag(5, "8"), name)
            await wait(lambda: read_route(file).model_version == "8")

    try:
        asyncio.run(story())
    finally:
        server.stop()


def test_a_page_is_no_flag(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A portal that wants a password says 200 to everything."""
    server, file = Static(tmp_path / "served"), tmp_path / "flags.json"
    url = server.write(flag(4), "flags.html")

    async def story() -> None:
        async with reading(url, file, max_age_s=2.0):
            await wait(lambda: "content type is text/html, not JSON; the teacher answers" in said(capfd).replace(");", ";"))
            assert not file.exists()

    try:
        asyncio.run(story())
    finally:
        server.stop()


def test_an_unchanged_flag_is_not_sent_again(tmp_path: Path) -> None:
    statuses: list[int] = []

    @web.middleware
    async def counted(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        statuses.append(304 if request.headers.get("If-None-Match") else 200)
        return response

    async def story() -> None:
        (tmp_path / "served").mkdir()
        (tmp_path / "served" / "flags.json").write_bytes(flag(1))
        app = web.Application(middlewares=[counted])
        app.router.add_static("/", tmp_path / "served")
        async with TestServer(app) as server, reading(str(server.make_url("/flags.json")), tmp_path / "flags.json", 2.0):
            await wait(lambda: len(statuses) >= 4)
            assert read_route(tmp_path / "flags.json").model_version == "7", "a reply that says `not changed` keeps the flag"
            assert statuses[0] == 200 and 304 in statuses

    asyncio.run(story())


def test_the_flag_of_an_earlier_process_does_not_hold(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It may be of last month. Its number still says that an older one must not come."""
    server, file = Static(tmp_path / "served"), tmp_path / "flags.json"
    file.write_bytes(flag(9))
    url = server.write(flag(8, "6"))

    async def story() -> None:
        async with reading(url, file, max_age_s=2.0):
            await wait(lambda: "revision 8, older than revision 9" in said(capfd))
            assert not file.exists()

    try:
        asyncio.run(story())
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("url", "store", "reason"),
    [
        ("flags.json", "file:///srv", "must be an http"),
        ("http://a:b@host/flags.json", "file:///srv", "without password"),
        ("http://host/x", "", "set both"),
    ],
)
def test_an_address_that_cannot_be_used(url: str, store: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tasks.serving.router import _flag_over_http

    monkeypatch.setenv("REDISTILL_FLAG_URL", url)
    monkeypatch.setenv("REDISTILL_SHARED_STORE", store)
    with pytest.raises(ConfigError, match=reason) as error:
        _flag_over_http(load_params(Path(__file__).parents[3] / "params.yaml").serve)
    assert "a:b" not in str(error.value)
