"""The command ``redistill``. A stage starts without loading the other commands, because a cycle starts twenty stages."""

from __future__ import annotations

import sys


def main() -> None:
    if sys.argv[1:2] == ["stage"] and len(sys.argv) > 2 and not sys.argv[2].startswith("-"):
        from redistill.cli.stage import run_stage

        sys.exit(run_stage(sys.argv[2], sys.argv[3:]))
    from redistill.cli.app import main as command_line

    command_line()
