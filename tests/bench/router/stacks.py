"""Which HTTP server and client the router is built on: bare proxies of a few lines each, before the same stub.

``python -m tests.bench.router.stacks`` prints the table of docs/adr/0040-router-on-aiohttp.md. ``--serve STACK PORT UPSTREAM`` serves one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.bench.router.load import saturating
from tests.bench.router.processes import idle_or_exit, served

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "my card is lost and I am abroad"}]}).encode()
PATH = "/v1/chat/completions"


def aiohttp_uvloop(port: int, upstream: str) -> None:
    import uvloop

    aiohttp_both(port, upstream, uvloop.new_event_loop())


def aiohttp_both(port: int, upstream: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
    from aiohttp import ClientSession, TCPConnector, web

    async def handle(request: web.Request) -> web.Response:
        async with session[0].post(upstream + PATH, data=await request.read(), headers={"Content-Type": "application/json"}) as response:
            return web.Response(body=await response.read(), status=response.status, content_type="application/json")

    async def start(app: web.Application) -> AsyncIterator[None]:
        async with ClientSession(connector=TCPConnector(limit=0)) as opened:
            session.append(opened)
            yield

    session: list[ClientSession] = []
    app = web.Application()
    app.cleanup_ctx.append(start)
    app.router.add_post(PATH, handle)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, loop=loop)


def _uvicorn(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def fastapi_httpx(port: int, upstream: str) -> None:
    import httpx
    from fastapi import FastAPI, Request, Response

    app, client = FastAPI(), httpx.AsyncClient(limits=httpx.Limits(max_connections=None))

    async def handle(request: Request) -> Response:
        reply = await client.post(upstream + PATH, content=await request.body(), headers={"Content-Type": "application/json"})
        return Response(reply.content, reply.status_code, media_type="application/json")

    # FastAPI reads the annotation, and cannot resolve its text to a name of this function.
    handle.__annotations__ = {"request": Request, "return": Response}
    app.post(PATH)(handle)
    _uvicorn(app, port)


def starlette_aiohttp(port: int, upstream: str) -> None:
    from aiohttp import ClientSession, TCPConnector
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    session: list[ClientSession] = []

    @asynccontextmanager
    async def start(app: Starlette) -> AsyncIterator[None]:
        async with ClientSession(connector=TCPConnector(limit=0)) as opened:
            session.append(opened)
            yield

    async def handle(request: Request) -> Response:
        async with session[0].post(upstream + PATH, data=await request.body(), headers={"Content-Type": "application/json"}) as response:
            return Response(await response.read(), response.status, media_type="application/json")

    _uvicorn(Starlette(routes=[Route(PATH, handle, methods=["POST"])], lifespan=start), port)


STACKS = {
    "aiohttp, aiohttp": aiohttp_both,
    "aiohttp, aiohttp, on uvloop": aiohttp_uvloop,
    "uvicorn + Starlette, aiohttp": starlette_aiohttp,
    "uvicorn + FastAPI, httpx": fastapi_httpx,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=3, metavar=("STACK", "PORT", "UPSTREAM"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3000)
    options = parser.parse_args()
    if options.serve:
        STACKS[options.serve[0]](int(options.serve[1]), options.serve[2])
        return
    idle_or_exit()
    rates: dict[str, list[float]] = {name: [] for name in ("none (the stub itself)", *STACKS)}
    p50: dict[str, list[float]] = {name: [] for name in rates}
    with served("tests.bench.router.stub") as stub:
        for round_number in range(options.rounds):
            names = list(rates) if round_number % 2 else list(rates)[::-1]
            for name in names:
                if name in STACKS:
                    with served("tests.bench.router.stacks", "--serve", name, "{port}", f"http://127.0.0.1:{stub}") as port:
                        loads = _rounds(port, options.requests)
                else:
                    loads = _rounds(stub, options.requests)
                rates[name].append(loads[0])
                p50[name].append(loads[1])
    print("| server, client | requests/s at saturation | p50 of one at a time |\n|---|---|---|")
    for name, values in rates.items():
        print(
            f"| {name} | {statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f}) | {1000 * statistics.median(p50[name]):.2f} ms |"
        )


def _rounds(port: int, count: int) -> tuple[float, float]:
    asyncio.run(saturating(port, PATH, [BODY], 32, 300))
    full = asyncio.run(saturating(port, PATH, [BODY], 32, count))
    one = asyncio.run(saturating(port, PATH, [BODY], 1, 300))
    return full.rate, one.percentile(0.5)


if __name__ == "__main__":
    sys.exit(main())
