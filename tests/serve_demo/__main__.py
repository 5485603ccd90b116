"""Both models behind the router, on real servers: ``make serve-demo``, in a project whose last cycle promoted a system.

The monitor rows are asked through OpenAI's client in each mode. Then the student's server is killed and started again, the flag is flipped, the drill asks the
router, the live version is rolled back and forth (if there is an earlier one), and prompts of another business drift in until the route falls and a cycle is
asked for. Each step is a named check; the last line says how many were as expected. At the end the version gets its traffic back.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from redistill.data.types import Prompt
from redistill.io.parquet import read_records
from redistill.params import load_params
from redistill.runtime.environment import silence
from redistill.serving.route_flag import read_route
from tasks.paths import ARTIFACTS
from tasks.registry.transitions import FLAGS
from tests.bench.router.processes import free_port
from tests.serve_demo.checks import Checks, flip, redistill, until, up_models
from tests.serve_demo.client import Client
from tests.serve_demo.drift import drifted, given_back
from tests.serve_demo.failures import drilled, flag_is_followed, outage
from tests.serve_demo.modes import agrees, say_mode
from tests.serve_demo.rollback import rolled_back


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="ask at most so many monitor rows in each mode")
    options = parser.parse_args()
    silence()
    params, checks = load_params(), Checks()
    live = read_route(FLAGS)
    if live.model_version is None:
        print(
            "error: no version is live; run `make demo`, or approve a held one: `redistill promote VERSION --reason REASON`",
            file=sys.stderr,
        )
        return 2
    rows = read_records(ARTIFACTS / "prompts" / "monitor.parquet", Prompt)[: options.rows]
    with models(), router() as url:
        client = Client(url, params)
        for mode, pin in (("teacher", "teacher"), (live.mode, "auto"), ("student", "student")):
            flip(pin)
            client.wait_for_mode(mode)
            answers = client.ask_all(rows)
            say_mode(mode, answers)
            agrees(checks, mode, rows, answers)
        flip("auto")
        client.wait_for_mode(live.mode)
        outage(checks, client, rows)
        flag_is_followed(checks, client)
        client.wait_for_mode(live.mode)
        drilled(checks, params)
        rolled_back(checks, client, rows, params)
        drifted(checks, client, params)
        given_back(client, live.model_version)
    print(f"serve-demo: {checks.passed} of {checks.passed + checks.failed} as expected")
    return 0 if not checks.failed else 1


@contextmanager
def models() -> Iterator[None]:
    """The servers of both models; those that ran before go on afterwards."""
    before = Path(".redistill/serving/models.json").is_file()
    up_models()
    try:
        yield
    finally:
        if not before:
            redistill("down")


@contextmanager
def router() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "redistill", "serve", "--port", str(port)])
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        if process.poll() is not None:
            sys.exit("error: the router ended")
        with suppress(httpx.HTTPError):
            return httpx.get(f"{url}/healthz", timeout=5.0).status_code == 200
        return False

    try:
        until(up)
        yield url
    finally:
        process.terminate()
        process.wait(30.0)


if __name__ == "__main__":
    sys.exit(main())
