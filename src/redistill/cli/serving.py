"""``redistill serve``, ``up-models``, ``serve-model`` and ``drift``: the router, the servers of both models, and the monitor of live traffic."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from redistill.cli.project import Json, application, flow, show


class Side(StrEnum):
    """A model behind the router."""

    STUDENT = "student"
    TEACHER = "teacher"


def serve(
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at. Any other than loopback needs a key for callers.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The port of the router.")] = 8080,
) -> None:
    """Serve both models behind one OpenAI-compatible address: the flag decides who answers, and the teacher answers whatever the student cannot.

    The addresses of the two models' servers are in REDISTILL_STUDENT_URL and REDISTILL_TEACHER_URL, or those that [bold]redistill up-models[/bold]
    started. Keys: REDISTILL_STUDENT_API_KEY, REDISTILL_TEACHER_API_KEY, and REDISTILL_SERVE_API_KEY, which callers must send.
    Each response says in its headers who answered and why (X-Redistill-Route, -Reason, -Model-Version). Where OTEL_EXPORTER_OTLP_ENDPOINT names a
    collector, requests are traced. See docs/serving.md.
    """
    from redistill.params import load_params

    router = application("tasks.serving.router")
    router.serve(load_params(), router.Address(host, port), _say)


def up_models(
    teacher_port: Annotated[int, typer.Option("--teacher-port", min=1, max=65535, help="Port of the teacher's server.")] = 8100,
    student_port: Annotated[int, typer.Option("--student-port", min=1, max=65535, help="Port of the student's server.")] = 8101,
    next_port: Annotated[int, typer.Option("--next-port", min=1, max=65535, help="Port of the second server of students.")] = 8102,
    beside: Annotated[
        bool, typer.Option("--next", help="Start the live version beside the one before it, which still answers during a rollout.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start the servers of the locked teacher and of the live version with vLLM, and wait until they are ready. [bold]redistill down[/bold] ends them.

    The version's signature is checked first. An endpoint as the teacher needs no server here. During a rollout (serve.rollout_steps) two versions
    of the student answer: start the new one with --next, in the place that the version before it does not need.
    """
    from redistill.params import load_params

    ports = {"teacher": teacher_port, "student": student_port} | ({"next": next_port} if beside else {})
    urls = application("tasks.serving.up_models").up_models(load_params(), ports, _say)
    show(urls, as_json, [f"{side:<8} {url}" for side, url in urls.items()])


def drift(as_json: Json = False) -> None:
    """Compare the live traffic since the last window with the rows that models are judged on, and warn or act if a difference lasts.

    [bold]redistill up[/bold] does this on its schedule (schedule.traffic_cron). Traffic that was judged once is not judged again: with too few new requests
    (drift.min_rows), the window stays open. The page with plots is artifacts/traffic/report.html. See docs/serving.md.
    """
    seen = flow("flows.monitor_traffic").monitor_traffic()
    lines = [seen["sentence"], *(f"{m['measure']:<14} {m['value']:>9}  {m['by chance']:<18} {m['result']}" for m in seen["measures"])]
    show(seen, as_json, [*lines, *seen["notes"], *seen["done"]])


def serve_model(
    side: Annotated[Side, typer.Argument(help="Whose server: student or teacher.")],
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at. Any other than loopback needs a key that the router sends.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The port of the server.")] = 8000,
) -> None:
    """Serve one model with vLLM in the foreground, as a container or a unit of systemd does. On one machine, [bold]redistill up-models[/bold] is simpler.

    The student's server waits until a version is live, checks its signature, and starts again with another version when the flag names one.
    Keys: REDISTILL_STUDENT_API_KEY, REDISTILL_TEACHER_API_KEY; the router reads the same variables.
    """
    from redistill.params import load_params

    address = application("tasks.serving.router").Address(host, port)
    application("tasks.serving.one_model").serve_model(load_params(), side.value, address, _say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(serve)
    app.command(name="up-models")(up_models)
    app.command()(drift)
    app.command(name="serve-model")(serve_model)
