"""Commands about the distillation engine itself; they need no project."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from redistill.cli_project import Json, show


def conformance(
    impl: Annotated[
        str | None, typer.Option("--impl", help="One implementation; all that are installed if left out.", metavar="NAME")
    ] = None,
    as_json: Json = False,
) -> None:
    """Try the twelve rules of correct distillation on our losses and on what people would otherwise use.

    Small checks on a CPU, a minute at most: each rule's measured error, and what was measured. "Not applicable" means that there is nothing
    the rule could be tried on, such as a cache. Ends with 1 where one of ours fails.

    Example: redistill conformance --impl redistill
    """
    from redistill.conformance.known import conformance as run

    found = run(impl)
    tree = {name: {rule: dataclasses.asdict(f) for rule, f in findings.items()} for name, (_, findings) in found.items()}
    lines: list[str | None] = []
    for name, (version, findings) in found.items():
        passed = sum(f.outcome == "pass" for f in findings.values())
        failed = sum(f.outcome == "fail" for f in findings.values())
        lines += ["" if lines else None, f"{name} ({version}): {passed} of {len(findings)} pass, {failed} fail"]
        lines += [
            f"  {rule:<20} {f.outcome:<15} {'' if f.error is None else format(f.error, '.1e'):<8} {f.why}" for rule, f in findings.items()
        ]
    show({"implementations": tree}, as_json, [line for line in lines if line is not None])
    if any(f.outcome == "fail" for name, (_, findings) in found.items() if name.startswith("redistill") for f in findings.values()):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.command()(conformance)
