"""The command line. Commands import heavy packages inside their functions, so that ``--help`` is fast."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from redistill.cli import eject, engine, estimate, forget, init, operations, promotion, route, services, serving
from redistill.cli.heldout import heldout_app
from redistill.cli.key import key_app
from redistill.cli.labels import labels_app
from redistill.cli.project import Json, application, flow, show
from redistill.cli.traffic import traffic_app
from redistill.errors import ConfigError, DataError, InterruptedByUser, RedistillError
from redistill.io.atomic import is_refused_file, refused_file
from redistill.runtime import environment, one_line_errors
from redistill.runtime.running_services import use_running_services
from redistill.runtime.service_addresses import move_credentials
from redistill.runtime.service_failures import as_registry_errors

app = typer.Typer(
    name="redistill",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Train a small student model to replace a large teacher model, and check every night that it is still as good.\n\n"
    "A project is a directory with params.yaml and dvc.yaml. [bold]redistill run[/bold] runs one cycle. [bold]redistill status[/bold] shows "
    "what is live, [bold]redistill route get[/bold] which model responds, and [bold]redistill history[/bold] why.\n\n"
    "Exit codes: 0 done (also hold), 2 usage or config, 3 data, 4 teacher, 5 stage failed, 6 registry.",
)
app.command()(init.init)
app.add_typer(route.app, name="route")
app.add_typer(heldout_app, name="heldout")
app.add_typer(labels_app, name="labels")
app.add_typer(key_app, name="key")
app.add_typer(traffic_app, name="traffic")

Reason = Annotated[str, typer.Option("--reason", help="The reason. It is recorded.")]
_DEBUG = {"on": False}
_INTERRUPTED = {"yes": False}


@app.callback()
def project(
    context: typer.Context,
    directory: Annotated[Path, typer.Option("-C", help="The project directory.", metavar="DIR")] = Path(),
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one-line error messages.")] = False,
) -> None:
    _DEBUG["on"] = debug
    environment.silence()
    # Raise SystemExit, so that child processes (a stage, Prefect's own server) are stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not directory.is_dir():
        raise ConfigError(f"-C {directory}: no such directory")
    os.chdir(directory)
    move_credentials()
    if Path(".redistill-restore/verified.json").is_file() and context.invoked_subcommand != "restore":
        raise ConfigError("a restore was interrupted here; run the same `redistill restore` again, and it completes it")
    if context.invoked_subcommand not in ("up", "down"):
        use_running_services()


def _interrupt(*_: object) -> None:
    """Ctrl-C: from now on, only the line at the end. What the flow logs about its own end is about parts that were stopped on purpose."""
    _INTERRUPTED["yes"] = True
    raise KeyboardInterrupt


@app.command()
def run(reason: Reason = "by hand", as_json: Json = False) -> None:
    """Run one cycle: prepare data, generate with the teacher, validate, train, benchmark, decide, route.

    DVC runs only stages whose inputs changed. The teacher generates only completions that are not in the store.
    After an interruption, run the command again.
    """
    from redistill.params import load_params

    load_params()
    if not _DEBUG["on"]:
        one_line_errors.install(lambda: _INTERRUPTED["yes"])
    signal.signal(signal.SIGINT, _interrupt)
    try:
        outcome = flow("flows.distill_student").distill_student(reason=reason)
    except KeyboardInterrupt:
        raise InterruptedByUser("interrupted; finished stages are kept, so run the command again to continue") from None
    if "declined" in outcome:
        show(outcome, as_json, [outcome["declined"]])
        return
    lines = [f"{stage:<18} {what}" for stage, what in outcome["stages"].items()]
    of_version = f" (version {outcome['model_version']})" if outcome["model_version"] else ""
    lines += ["", f"verdict: {outcome['verdict']}{of_version}", *(f"  {r}" for r in outcome["reasons"])]
    lines += [f"blocked: {outcome['blocked']}"] if outcome["blocked"] else []
    lines += [
        f"route:   {outcome['route']}",
        f"report:  {outcome.get('report') or 'none, because the cycle ended before it judged a student'}",
    ]
    show(outcome, as_json, lines)


@app.command()
def lock(
    new_date: Annotated[bool, typer.Option("--new-date", help="From now on, chat templates that state a date state today's date.")] = False,
    accept_teacher: Annotated[
        bool,
        typer.Option(
            "--accept-teacher", help="Let the next cycle use a new teacher that was refused, whatever the comparison says. Needs --reason."
        ),
    ] = False,
    ask_again: Annotated[
        bool,
        typer.Option("--ask-again", help="Ask the present teacher everything, also the slices that keep an earlier teacher's completions."),
    ] = False,
    newest: Annotated[
        bool,
        typer.Option(
            "--newest",
            help="With a shared store: this clone's settings, code and locks are newer than those of the other clones, and its next cycle publishes them.",
        ),
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why the teacher is accepted. It is recorded.")] = "",
    as_json: Json = False,
) -> None:
    """Check the licence reviews, then write the lock files of sources, code and teacher. A cycle does this too."""
    from redistill.params import load_params

    params = load_params()
    if accept_teacher:
        if not reason.strip():
            raise ConfigError("give a reason with --reason; it is recorded")
        raw = application("tasks.promotion.teacher_trial").accept(params, reason)
        show({"accepted": raw}, as_json, [f"teacher {raw[:16]} is accepted; the next cycle uses it"])
        return
    if newest and not application("tasks.sharing.session").declare_newest(params):
        raise ConfigError(
            "--newest is for clones that share a store, but REDISTILL_SHARED_STORE is not set, or no cycle has written there yet"
        )
    teacher_lock = application("tasks.locking.teacher_lock")
    teacher_lock.review_licences(params)
    # A lock that is written while a stage runs would record the stage's result under code that it did not run.
    with application("tasks.running.cycle_lock").one_cycle(lambda line: print(line, file=sys.stderr, flush=True)):
        teacher_lock.lock_sources(params, new_date=new_date)
        application("tasks.locking.code_lock").lock_code()
        fingerprint, moved = teacher_lock.lock_teacher(params)
        if ask_again:
            moved = application("tasks.locking.reasking").ask_everything() or moved
    show(
        {"teacher": fingerprint.digest, "changed": moved},
        as_json,
        [f"teacher {fingerprint.name}: {fingerprint.digest[:16]} ({'changed' if moved else 'unchanged'})"],
    )


@app.command()
def status(as_json: Json = False) -> None:
    """Show which versions are live, the route, and the last completed cycle."""
    from redistill.params import load_params
    from redistill.provenance import mlflow_names
    from redistill.serving.route_flag import read_route, refresh_route

    params = load_params()
    registry, moves = application("tasks.registry.runs_and_versions"), application("tasks.registry.transitions")
    client = registry.connect(params)
    refresh_route(route.FLAGS)
    now = read_route(route.FLAGS)
    last = registry.last_completed(params)
    registered = registry.registered_model(client, params.data.name).aliases
    aliases = {a: str(registered[a]) if a in registered else None for a in mlflow_names.ALIASES}
    on_hold = application("tasks.registry.hold_counter").read(client, params)
    summary = {
        "model": params.data.name,
        **aliases,
        "route": now.answers,
        "pin": now.pin,
        "cascade": now.cascade and now.cascade.rule,
        "route_reason": now.reason,
        "champion_nights_on_hold": on_hold.nights if on_hold and on_hold.version == aliases[mlflow_names.CHAMPION] else 0,
        "last_cycle": last and last.get(mlflow_names.TAG_CYCLE),
        "last_commit": last and last.get(mlflow_names.TAG_GIT),
        "moved_outside": moves.moved_outside(client, params, moves.history(client, params)),
    }
    show(summary, as_json, [f"{k.replace('_', ' '):<14} {'-' if v is None else v}" for k, v in summary.items()])


@app.command()
def watch(
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Check once and exit. Without this option, run the watcher, the nightly cycle and the forms until stopped."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the teacher with that of the last completed cycle, and start a cycle if it changed."""
    if not once:
        application("flows.deployments").serve()
        return
    seen = flow("flows.watch_teacher").watch_teacher()
    lines = [f"teacher {seen['fingerprint'][:16]}: {'changed, cycle started' if seen['changed'] else 'unchanged'}"]
    show(seen, as_json, lines)


@app.command()
def report(as_json: Json = False) -> None:
    """Show where the last report is, and its decision."""
    from redistill.io.json import read_json

    if not Path("artifacts/report/report.json").is_file():
        raise DataError("no cycle has written a report here yet; start one with `redistill run`")
    tree = read_json("artifacts/report/report.json")
    page = Path("artifacts/report/index.html").absolute()
    summary = {"page": str(page), "verdict": tree["decision"]["verdict"], "cycle": tree["cycle"], "model_version": tree["model_version"]}
    show(summary, as_json, [f"{summary['cycle']}: {summary['verdict']} (version {summary['model_version']})", page.as_uri()])


@app.command(context_settings={"ignore_unknown_options": True})
def stage(
    name: Annotated[str, typer.Argument(help="Name of a stage in dvc.yaml.", metavar="NAME")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="The part after @ in the stage's name, for example the arm.", metavar="[ARGUMENT]...")
    ] = None,
) -> None:
    """Run one DVC stage, even if it is up to date. dvc.yaml uses this command. To run a stage only if needed, use `dvc repro NAME`.

    Example: redistill stage finetune kd
    """
    from redistill.cli.stage import run_stage

    raise typer.Exit(run_stage(name, arguments or []))


app.command()(eject.eject)
promotion.register(app)
app.command()(estimate.estimate)
services.register(app)
serving.register(app)
engine.register(app)
operations.register(app)
forget.register(app)


def main() -> None:
    """Entry point. An error for the user is one line and an exit code."""
    try:
        with as_registry_errors():
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
    except OSError as error:
        if _DEBUG["on"] or not is_refused_file(error):
            raise
        print(f"error: {refused_file(error)}", file=sys.stderr)
        sys.exit(DataError.exit_code)
