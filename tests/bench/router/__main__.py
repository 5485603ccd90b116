"""What the router adds to a request, and how many it answers a second: ``python -m tests.bench.router [--rounds N] [--write]``.

The models' server is a stub in a second process that answers at once, and the load comes from a third, all on the same two cores. Rounds with the router and
rounds with direct calls alternate in random order. Latencies are at half of the saturation of the mode, with random arrivals.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
from pathlib import Path

import psutil

from tests.bench.__main__ import machine
from tests.bench.router.load import Load, at_rate, saturating
from tests.bench.router.processes import idle_or_exit, served
from tests.bench.tables import Table, rewritten

DOC = Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md"
MODES = ("teacher", "student", "cascade")
CHAT = "/v1/chat/completions"
ASKED = [
    json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": f"my card {n} is lost and I paid 650 abroad, please help"}]}
    ).encode()
    for n in range(50)
]
_SECONDS = 6.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=100_000, help="requests of the round that looks at memory")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    idle_or_exit()
    rng, rows = random.Random(7), []
    with served("tests.bench.router.stub") as stub:
        for mode in MODES:
            with served("tests.bench.router.server", "{port}", f"http://127.0.0.1:{stub}", mode) as router:
                asyncio.run(saturating(router, CHAT, ASKED, 32, 2000))
                rates = [asyncio.run(saturating(router, CHAT, ASKED, 32, 4000)).rate for _ in range(options.rounds)]
                half = statistics.median(rates) / 2
                pairs = [_pair(router, stub, half, rng) for _ in range(options.rounds)]
                memory = _memory(router, options.memory) if mode == "cascade" else ""
            rows.append([mode, _spread(rates, "{:,.0f}"), *(_added(pairs, share) for share in (0.5, 0.99)), memory])
            print(*rows[-1], sep="\t", flush=True)
    heads = ["mode", "requests/s at saturation", "added p50, ms", "added p99, ms", "memory before and after, MiB"]
    table = Table(f"On {machine()}, medians of {options.rounds} rounds (smallest to largest)", heads, rows)
    print(table.markdown())
    if options.write:
        DOC.write_text(rewritten(DOC.read_text(encoding="utf-8"), [table], "router"), encoding="utf-8")


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
