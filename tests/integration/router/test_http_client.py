"""The client of the models' servers, against a server that writes what each test says, byte by byte."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from redistill.serving.router.http_client import Client, UnreachableError
from redistill.serving.router.http_reply import BrokenError, TooLargeError
from tests.bench.router.processes import free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MOST = 1 << 20


class Scripted:
    """Writes the next of ``replies`` after each request; None closes the connection instead. ``seen`` has the requests, ``connections`` their number."""

    def __init__(self, *replies: bytes | None, pause_s: float = 0.0, closes: bool = False) -> None:
        self.replies, self.pause_s, self.closes = list(replies), pause_s, closes
        self.seen: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
                self.seen.append(head + await reader.readexactly(length))
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                if reply is None:
                    break
                for begin in range(0, len(reply), 7 if self.pause_s else len(reply)):
                    writer.write(reply[begin : begin + 7] if self.pause_s else reply)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self.closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def served(script: Scripted, path: str = "/v1", headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, limit=1 << 24)
    client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}", headers or {}, 5.0)
    try:
        yield client
    finally:
        await client.close()
        assert not client.idle and not client.open
        server.close()


async def asked(client: Client, most: int = MOST) -> bytes:
    reply = await client.send("POST", "/completions", b"{}")
    try:
        async with asyncio.timeout(20.0):
            return await reply.body(most)
    finally:
        reply.close()


def chunked(*parts: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (*parts, b""))


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize(
    ("reply", "body", "kept"),
    [
        (OK, b"ok", True),
        (chunked(b"one", b"two" * 50), b"one" + b"two" * 50, True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
            % (len(z := gzip.compress(b"zipped" * 9, mtime=0)), z),
            b"zipped" * 9,
            True,
        ),
    ],
)
def test_each_form_of_a_body_is_read_and_its_connection_kept_where_it_may_be(
    reply: bytes, body: bytes, kept: bool, in_pieces: bool
) -> None:
    async def check() -> None:
        script = Scripted(reply, pause_s=float(in_pieces))
        async with served(script) as client:
            for _ in range(3):
                assert await asked(client) == body
            assert script.connections == (1 if kept else 3)

    asyncio.run(check())


def test_without_a_length_the_end_of_the_connection_is_the_end_of_the_body() -> None:
    async def check() -> None:
        async with served(Scripted(b"HTTP/1.1 200 OK\r\n\r\nall of it", closes=True)) as client:
            assert await asked(client) == b"all of it"

    asyncio.run(check())


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        chunked(b"one")[:-5],
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n" + b"A: " + b"x" * (80 << 10) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_what_is_no_whole_reply_is_an_error_and_is_asked_once(reply: bytes) -> None:
    async def check() -> None:
        script = Scripted(reply, closes=True)
        async with served(script) as client:
            with pytest.raises(BrokenError):
                await asked(client)
            assert len(script.seen) == 1

    asyncio.run(check())


def test_a_kept_connection_that_was_closed_is_replaced_once_and_a_fresh_one_is_not() -> None:
    async def check() -> None:
        script = Scripted(OK, None, OK)
        async with served(script) as client:
            assert (await asked(client), await asked(client)) == (b"ok", b"ok")
            assert (len(script.seen), script.connections) == (3, 2)
        script = Scripted(None)
        async with served(script) as client:
            with pytest.raises(BrokenError):
                await asked(client)
            assert len(script.seen) == 1, "a server that ended because of a request is not sent it again"
        script = Scripted(OK, b"HTTP/1.1 2", OK, closes=False)
        async with served(script) as client:
            await asked(client)
            script.closes = True
            with pytest.raises(BrokenError):
                await asked(client)
            assert len(script.seen) == 2, "a reply had begun"

    asyncio.run(check())


def test_bytes_after_a_reply_are_never_the_next_reply() -> None:
    async def check() -> None:
        script = Scripted(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", OK)
        async with served(script) as client:
            answers = []
            for _ in range(2):
                try:
                    answers.append(await asked(client))
                except BrokenError:
                    answers.append(b"broken")
                await asyncio.sleep(0.05)
            assert b"evil" not in answers

    asyncio.run(check())


def test_bodies_are_bounded_also_where_they_are_compressed() -> None:
    async def check() -> None:
        for reply in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100,
            chunked(b"x" * 100),
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
            % (len(z := gzip.compress(b"x" * 100, mtime=0)), z),
        ):
            async with served(Scripted(reply)) as client:
                with pytest.raises(TooLargeError):
                    await asked(client, most=50)
        bomb = gzip.compress(b"x" * (64 << 20), mtime=0)
        async with served(
            Scripted(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(bomb), bomb))
        ) as client:
            with pytest.raises((BrokenError, TooLargeError)):
                await asked(client)

    asyncio.run(check())


def test_a_server_that_writes_faster_than_it_is_read_waits() -> None:
    async def check() -> None:
        size, written = 48 << 20, 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                while written < size:
                    writer.write(b"x" * (1 << 20))
                    written += 1 << 20
                    await writer.drain()
                written = 0

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", {}, 5.0)
        reply = await client.send("POST", "/completions", b"{}")
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.1)
        assert 0 < written < size, "the rest waits at the server"
        total = len(await reply.body(size))
        assert total == size and len(client.idle) == 1
        assert len(await asked_on(client, size)) == size
        await client.close()
        server.close()

    async def asked_on(client: Client, size: int) -> bytes:
        return await asked(client, most=size)

    asyncio.run(check())


def test_a_request_is_written_as_a_server_expects_it() -> None:
    async def check() -> None:
        script = Scripted(OK)
        async with served(script, "/base/v1", {"Authorization": "Bearer k"}) as client:
            await (await client.send("POST", "/completions", b'{"a": 1}', {"traceparent": "00-1"})).body(MOST)
            await (await client.send("GET", "/models")).body(MOST)
            await (await client.send("GET", "/version", beside=True)).body(MOST)
        post, models, version = script.seen
        assert post.startswith(b"POST /base/v1/completions HTTP/1.1\r\nHost: 127.0.0.1:") and post.endswith(b'\r\n\r\n{"a": 1}')
        assert b"\r\nAuthorization: Bearer k\r\n" in post and b"\r\ntraceparent: 00-1\r\n" in post and b"\r\nContent-Length: 8\r\n" in post
        assert models.startswith(b"GET /base/v1/models ") and version.startswith(b"GET /base/version ") and b"Content-Length" not in models

    asyncio.run(check())


def test_no_server_and_no_name_are_unreachable() -> None:
    async def check() -> None:
        for url in (f"http://127.0.0.1:{free_port()}/v1", f"https://127.0.0.1:{free_port()}/v1", "http://nowhere.invalid/v1"):
            client = Client(url, {}, 5.0)
            with pytest.raises(UnreachableError):
                await client.send("POST", "/completions", b"{}")
            await client.close()
        script = Scripted(OK)
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        client = Client(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", {}, 5.0)
        with pytest.raises(UnreachableError):
            await client.send("POST", "/completions", b"{}")
        server.close()

    asyncio.run(check())


def test_a_cancelled_request_closes_its_connection() -> None:
    async def check() -> None:
        gone = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await reader.read()
            gone.set()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", {}, 5.0)
        sending = asyncio.ensure_future(client.send("POST", "/completions", b""))
        while not client.open:
            await asyncio.sleep(0.01)
        sending.cancel()
        await asyncio.wait_for(gone.wait(), 20.0)
        await asyncio.gather(sending, return_exceptions=True)
        assert not client.idle
        server.close()

    asyncio.run(check())
