"""What the router adds to a request, and how many it answers a second: ``python -m tests.bench.router [--rounds N] [--litellm DIR] [--write]``.

The models' server is a stub in a second process that answers at once, and the load comes from a third, all on the same two cores. Beside the modes of the
router there is a bare proxy of a few lines on the same server, the router with traces on, and on request LiteLLM's proxy, in an environment of its own. All run
at the same time and are measured in rounds, in random order. Latencies are at half of a target's saturation, with random arrivals; each round has a direct one
beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.bench.__main__ import machine
from tests.bench.router import litellm_proxy
from tests.bench.router.load import Load, at_rate, saturating
from tests.bench.router.processes import idle_or_exit, served
from tests.bench.tables import Table, rewritten

DOC = Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md"
MODES = ("teacher", "student", "cascade")
BARE, TRACED, LITELLM = "bare proxy (aiohttp)", "student, with traces", "LiteLLM"
CHAT = "/v1/chat/completions"
ASKED = [
    json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": f"my card {n} is lost and I paid 650 abroad, please help"}]}
    ).encode()
    for n in range(50)
]
_SECONDS = 6.0
_COUNT = 4000


@dataclass
class Target:
    """What is measured: ``count`` is the number of requests of a round at saturation."""

    name: str
    port: int
    count: int = _COUNT
    rates: list[float] = field(default_factory=list)
    pairs: list[tuple[Load, Load]] = field(default_factory=list)
    memory: str = ""

    def row(self) -> list[str]:
        return [self.name, _spread(self.rates, "{:,.0f}"), *(_added(self.pairs, share) for share in (0.5, 0.99)), self.memory]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=100_000, help="requests of the round that looks at memory; 0 leaves it out")
    parser.add_argument(
        "--litellm",
        type=Path,
        metavar="DIR",
        help="also measure LiteLLM's proxy; it is installed into DIR, which is no part of the project",
    )
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    version = litellm_proxy.installed(options.litellm) if options.litellm else ""
    idle_or_exit()
    rng = random.Random(7)
    with served("tests.bench.router.stub") as stub, _targets(stub, options.litellm, version) as targets:
        for target in targets:
            asyncio.run(saturating(target.port, CHAT, ASKED, 32, target.count // 2))
        for _ in range(options.rounds):
            for target in rng.sample(targets, len(targets)):
                idle_or_exit()
                target.rates.append(asyncio.run(saturating(target.port, CHAT, ASKED, 32, target.count)).rate)
        for _ in range(options.rounds):
            for target in rng.sample(targets, len(targets)):
                idle_or_exit()
                target.pairs.append(_pair(target.port, stub, statistics.median(target.rates) / 2, rng))
        if options.memory:
            cascade = next(target for target in targets if target.name == MODES[-1])
            cascade.memory = _memory(cascade.port, options.memory)
    rows = [target.row() for target in targets]
    heads = ["through", "requests/s at saturation", "added p50, ms", "added p99, ms", "memory before and after, MiB"]
    table = Table(f"On {machine()}, medians of {options.rounds} rounds (smallest to largest)", heads, rows)
    print(table.markdown())
    if options.write:
        DOC.write_text(rewritten(DOC.read_text(encoding="utf-8"), [table], "router"), encoding="utf-8")


@contextmanager
def _targets(stub: int, litellm: Path | None, version: str) -> Iterator[list[Target]]:
    """All servers that are measured; those that are not asked do nothing."""
    address = f"http://127.0.0.1:{stub}"
    with ExitStack() as stack:

        def router(mode: str, **environment: str) -> int:
            return stack.enter_context(served("tests.bench.router.server", "{port}", address, mode, environment=environment))

        bare = ("--serve", "aiohttp, aiohttp, on uvloop", "{port}", address)
        targets = [Target(BARE, stack.enter_context(served("tests.bench.router.stacks", *bare)))]
        targets += [Target(mode, router(mode)) for mode in MODES]
        targets.append(Target(TRACED, router("student", OTEL_EXPORTER_OTLP_ENDPOINT=address)))
        if litellm is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            port = stack.enter_context(litellm_proxy.proxy(litellm, address, folder / "litellm.yaml"))
            targets.append(Target(f"{LITELLM} {version}", port, count=300))
        yield targets


def _pair(router: int, stub: int, rate: float, rng: random.Random) -> tuple[Load, Load]:
    """A round through the router and one of direct calls, at one rate and in random order."""
    ports, seed = [("router", router), ("direct", stub)], rng.randrange(1 << 30)
    rng.shuffle(ports)
    loads = {name: asyncio.run(at_rate(port, CHAT, ASKED, rate, _SECONDS, seed)) for name, port in ports}
    return loads["router"], loads["direct"]


def _added(pairs: list[tuple[Load, Load]], share: float) -> str:
    return _spread([1000 * (a.percentile(share) - b.percentile(share)) for a, b in pairs], "{:.2f}")


def _memory(port: int, count: int) -> str:
    [process] = [c.laddr and p for p in psutil.process_iter() for c in _listening(p) if c.laddr.port == port][:1]
    before = process.memory_info().rss
    asyncio.run(saturating(port, CHAT, ASKED, 32, count))
    return f"{before >> 20:,} and {process.memory_info().rss >> 20:,}, over {count:,} requests"


def _listening(process: psutil.Process) -> list[psutil._common.pconn]:
    try:
        return [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []


def _spread(values: list[float], form: str) -> str:
    return f"{form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"


if __name__ == "__main__":
    main()
