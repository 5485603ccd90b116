"""A load generator that takes little of the two cores: HTTP/1.1 over kept connections, written by hand.

Latencies are from the planned start of a request where requests have a rate, so that a server that stalls delays those behind it too (Tene 2015, "How NOT to
measure latency": coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from dataclasses import dataclass

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Load:
    """What one round measured: requests a second, and each latency in seconds."""

    rate: float
    latencies: list[float]

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, path: str, body: bytes) -> None:
        self._writer.write(
            b"POST "
            + path.encode()
            + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        match = _LENGTH.search(head)
        assert head.startswith(b"HTTP/1.1 200") and match, head[:200]
        await self._reader.readexactly(int(match[1]))

    def close(self) -> None:
        self._writer.close()


async def saturating(port: int, path: str, bodies: list[bytes], connections: int, count: int) -> Load:
    """``count`` requests, ``connections`` at a time."""
    todo, latencies = iter(range(count)), list[float]()

    async def work() -> None:
        connection = await Connection.to(port)
        for n in todo:
            begin = time.perf_counter()
            await connection.post(path, bodies[n % len(bodies)])
            latencies.append(time.perf_counter() - begin)
        connection.close()

    begin = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    return Load(count / (time.perf_counter() - begin), latencies)


async def at_rate(port: int, path: str, bodies: list[bytes], rate: float, seconds: float, seed: int, connections: int = 64) -> Load:
    """Requests that come at random times (a Poisson process)."""
    rng, latencies = random.Random(seed), list[float]()
    pool: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in await asyncio.gather(*(Connection.to(port) for _ in range(connections))):
        pool.put_nowait(connection)

    async def one(planned: float, body: bytes) -> None:
        connection = await pool.get()
        await connection.post(path, body)
        latencies.append(time.perf_counter() - planned)
        pool.put_nowait(connection)

    begin = planned = time.perf_counter()
    tasks = set()
    while planned < begin + seconds:
        planned += rng.expovariate(rate)
        if (wait := planned - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.ensure_future(one(planned, bodies[len(latencies) % len(bodies)]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    load = Load(len(latencies) / (time.perf_counter() - begin), latencies)
    while not pool.empty():
        pool.get_nowait().close()
    return load
