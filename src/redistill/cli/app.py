"""The command line. Heavy things are imported inside the commands, so that ``--help`` answers at once."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from redistill.cli import eject, engine, init, promotion
from redistill.cli.project import Json, application, show
from redistill.errors import ConfigError, RedistillError
from redistill.runtime import environment

app = typer.Typer(
    name="redistill",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Keep a small student model as good as the large teacher it replaces, night after night.\n\n"
    "A project is a directory with params.yaml and dvc.yaml. One cycle: [bold]redistill run[/bold]; what is live: "
    "[bold]redistill status[/bold]; who answers: [bold]redistill route get[/bold]; why: [bold]redistill history[/bold].\n\n"
    "Exit codes: 0 done (also hold), 2 usage or config, 3 data, 4 teacher, 5 stage failed, 6 registry.",
)
route_app = typer.Typer(no_args_is_help=True, help="Who answers requests: the flag in artifacts/route/flags.json.")
app.command()(init.init)
app.add_typer(route_app, name="route")

Reason = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]
FLAGS = Path("artifacts/route/flags.json")
_DEBUG = {"on": False}


@app.callback()
def project(
    directory: Annotated[Path, typer.Option("-C", help="The project directory.", metavar="DIR")] = Path(),
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one-line errors.")] = False,
) -> None:
    _DEBUG["on"] = debug
    environment.silence()
    # An orderly end, so that what was started (a stage, Prefect's own server) is stopped with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not directory.is_dir():
        raise ConfigError(f"-C {directory}: no such directory")
    os.chdir(directory)


class _OneLine(logging.Filter):
    """Prefect logs every exception with its traceback; ours are meant for the user and end in one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], RedistillError) and not _DEBUG["on"]:
            record.exc_info, record.exc_text = None, None
        return True


@app.command()
def run(reason: Reason = "by hand", as_json: Json = False) -> None:
    """Run one cycle: prepare, ask the teacher, validate, train, benchmark, decide, route.

    What DVC finds unchanged is not made again, and the teacher is asked only for what the store does not hold, so a
    cycle that was killed is simply run again.
    """
    from redistill.params import load_params

    load_params()
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_OneLine())
    outcome = application("flows.distill_student").distill_student(reason=reason)
    lines = [f"{stage:<18} {what}" for stage, what in outcome["stages"].items()]
    lines += ["", f"verdict: {outcome['verdict']} (version {outcome['model_version']})", *(f"  {r}" for r in outcome["reasons"])]
    lines += [f"held:    {outcome['barred']}"] if outcome["barred"] else []
    lines += [f"route:   {outcome['route']}", "report:  artifacts/report/index.html"]
    show(outcome, as_json, lines)


@app.command()
def lock(
    new_date: Annotated[bool, typer.Option("--new-date", help="Let chat templates that state the date state today's from now on.")] = False,
    as_json: Json = False,
) -> None:
    """Lock sources, code and teacher by hand: fingerprints, capabilities, licence review."""
    from redistill.params import load_params

    params = load_params()
    teacher_lock = application("tasks.locking.teacher_lock")
    teacher_lock.review_licences(params)
    # A lock that is written while a stage runs would record the stage's result under code that it did not run.
    with application("tasks.running.dvc_stage").one_cycle(lambda line: print(line, file=sys.stderr, flush=True)):
        teacher_lock.lock_sources(params, new_date=new_date)
        application("tasks.locking.code_lock").lock_code()
        fingerprint, moved = teacher_lock.lock_teacher(params)
    show(
        {"teacher": fingerprint.digest, "changed": moved},
        as_json,
        [f"teacher {fingerprint.name}: {fingerprint.digest[:16]} ({'changed' if moved else 'unchanged'})"],
    )


@app.command()
def status(as_json: Json = False) -> None:
    """What is live, since when, and what the last completed cycle said."""
    from redistill.params import load_params
    from redistill.provenance import mlflow_names
    from redistill.serving.route_flag import read_route

    params = load_params()
    registry, moves = application("tasks.registry.runs_and_versions"), application("tasks.registry.transitions")
    client = registry.connect(params)
    route = read_route(FLAGS)
    last = registry.last_completed(params)
    there = registry.registered_model(client, params.data.name).aliases
    aliases = {a: str(there[a]) if a in there else None for a in mlflow_names.ALIASES}
    on_hold = application("tasks.registry.hold_counter").read(client, params)
    found = {
        "model": params.data.name,
        **aliases,
        "route": route.answers,
        "pin": route.pin,
        "route_reason": route.reason,
        "champion_nights_on_hold": on_hold.nights if on_hold and on_hold.version == aliases[mlflow_names.CHAMPION] else 0,
        "last_cycle": last and last.get(mlflow_names.TAG_CYCLE),
        "last_commit": last and last.get(mlflow_names.TAG_GIT),
        "moved_outside": moves.moved_outside(client, params, moves.history(client, params)),
    }
    show(found, as_json, [f"{k.replace('_', ' '):<14} {'-' if v is None else v}" for k, v in found.items()])


@app.command()
def watch(
    once: Annotated[
        bool, typer.Option("--once", help="Look once and return; without it, serve the watcher and the nightly cycle until stopped.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the teacher with the last completed cycle's, and start a cycle where it changed."""
    watcher = application("flows.watch_teacher")
    if not once:
        watcher.serve()
        return
    seen = watcher.watch_teacher()
    lines = [f"teacher {seen['fingerprint'][:16]}: {'changed, cycle started' if seen['changed'] else 'unchanged'}"]
    show(seen, as_json, lines)


@app.command()
def report(as_json: Json = False) -> None:
    """Where the last report is, and what it decided."""
    from redistill.io.json import read_json

    tree = read_json("artifacts/report/report.json")
    page = Path("artifacts/report/index.html").absolute()
    found = {"page": str(page), "verdict": tree["decision"]["verdict"], "cycle": tree["cycle"], "model_version": tree["model_version"]}
    show(found, as_json, [f"{found['cycle']}: {found['verdict']} (version {found['model_version']})", page.as_uri()])


@app.command(context_settings={"ignore_unknown_options": True})
def stage(
    name: Annotated[str, typer.Argument(help="A stage of dvc.yaml.", metavar="NAME")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="What follows @ in the stage's name, such as the arm.", metavar="[ARGUMENT]...")
    ] = None,
) -> None:
    """Run one DVC stage: what dvc.yaml calls. To bring a stage up to date, use `dvc repro NAME`, which knows what is done already.

    Example: redistill stage finetune kd
    """
    from redistill.cli.stage import run_stage

    raise typer.Exit(run_stage(name, arguments or []))


@route_app.command("get")
def route_get(as_json: Json = False) -> None:
    """Who answers now, by whose wish, and why."""
    from redistill.serving.route_flag import read_route

    now = read_route(FLAGS)
    found = {
        "answers": now.answers,
        "pin": now.pin,
        "mode": now.mode,
        "model_version": now.model_version,
        "reason": now.reason,
        "changed_at": now.changed_at,
    }
    show(found, as_json, [f"{k.replace('_', ' '):<14} {'-' if v in (None, '') else v}" for k, v in found.items()])


@route_app.command("set")
def route_set(
    to: Annotated[
        str, typer.Argument(help="teacher, student, or auto (hand the route back to the system)", metavar="{teacher|student|auto}")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded in the flag.")] = "",
    as_json: Json = False,
) -> None:
    """Pin the route by hand, or hand it back to the system."""
    from redistill.serving.route_flag import update_route, with_pin

    route = update_route(FLAGS, lambda now: with_pin(now, to, reason))
    show({"answers": route.answers, "pin": route.pin}, as_json, [f"{route.answers} answers (pin: {route.pin})"])


app.command()(eject.eject)
promotion.register(app)
engine.register(app)


def main() -> None:
    """Entry point: one line and an exit code for errors that are meant for the user."""
    try:
        app()
    except ModuleNotFoundError as error:
        if _DEBUG["on"] or (error.name or "").partition(".")[0] in ("redistill", "tasks", "flows"):
            raise
        print(
            f"error: the package {error.name} is not installed; install redistill[all], or see its extras in pyproject.toml",
            file=sys.stderr,
        )
        sys.exit(ConfigError.exit_code)
    except RedistillError as error:
        if _DEBUG["on"]:
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)
