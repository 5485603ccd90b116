"""``redistill up`` and ``redistill down``: Prefect's server, MLflow's server and the runner of this project on this machine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from redistill.cli.project import Json, application, show


def up(
    host: Annotated[
        str | None, typer.Option("--host", help="The address to listen at. Neither server asks for a password. Default: 127.0.0.1.")
    ] = None,
    prefect_port: Annotated[
        int | None, typer.Option("--prefect-port", min=1, max=65535, help="Port of Prefect's server and UI. Default: 4200.")
    ] = None,
    mlflow_port: Annotated[
        int | None, typer.Option("--mlflow-port", min=1, max=65535, help="Port of MLflow's server and UI. Default: 5000.")
    ] = None,
    systemd: Annotated[bool, typer.Option("--systemd", help="Do not start anything; write a systemd unit that starts it at boot.")] = False,
    as_json: Json = False,
) -> None:
    """Start the nights: Prefect's server, MLflow's server, and the runner of this project. A second call starts what does not run.

    It returns when all three are ready, and they go on until [bold]redistill down[/bold]. What ends is started again. Logs are in
    .redistill/services/logs. Other commands in this project use these servers while they run.
    To use servers that your team runs already, set PREFECT_API_URL, MLFLOW_TRACKING_URI, or both; only the rest is started.
    """
    from redistill.params import load_params

    load_params()
    addresses = application("tasks.operations.addresses").from_options(host, prefect_port, mlflow_port)
    if systemd:
        unit = application("tasks.operations.systemd").write_unit(addresses)
        show({"unit": str(unit.file)}, as_json, unit.lines)
        return
    chosen = any(option is not None for option in (host, prefect_port, mlflow_port))
    running = application("tasks.operations.up").up(addresses, _say, chosen=chosen)
    if not addresses.loopback:
        _say(f"warning: the servers listen at {host}, and neither of them asks for a password")
    state = "started" if running.started else "runs already"
    lines = [f"Prefect   {running.prefect}", f"MLflow    {running.mlflow}", f"{state} (process {running.pid}); `redistill down` ends it"]
    show({"started": running.started, "pid": running.pid, "prefect": running.prefect, "mlflow": running.mlflow}, as_json, lines)


def down(as_json: Json = False) -> None:
    """End exactly what [bold]redistill up[/bold] and [bold]redistill up-models[/bold] started. A cycle that runs is ended too; the next one continues from its finished stages."""
    ended = [*application("tasks.operations.up").down(_say), *application("tasks.serving.up_models").down_models(_say)]
    show({"ended": ended}, as_json, [] if ended else ["nothing of this project was running"])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(up)
    app.command()(down)
