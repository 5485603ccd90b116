"""``redistill stage NAME [ARGUMENT ...]``: runs a stage, in a fork of the cycle's fork server where there is one.

The commands of dvc.yaml call this module. It imports nothing heavy, because the process that only requests a fork does not need a stage's imports.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence

from tasks.running.die_with_parent import die_with_parent
from tasks.running.fork_request import SOCKET, in_fork

STAGE_COMMAND = "tasks.running.stage_command"


def needs_fresh_process(name: str) -> bool:
    """Whether this stage will start vLLM, which starts processes of its own and so must not run in a fork.

    Also true if the params cannot be read: the stage then reports what is wrong with them.
    """
    if name != "generate":
        return False
    import yaml

    try:
        with open("params.yaml", encoding="utf-8") as handle:
            return bool(yaml.safe_load(handle)["teacher"].get("backend", "vllm") == "vllm")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, yaml.YAMLError):
        return True


def run_stage(name: str, arguments: Sequence[str]) -> int:
    """The stage's exit code."""
    if not name.isidentifier() or importlib.util.find_spec(f"tasks.stages.{name}") is None:
        print(f"error: there is no stage {name}; see the stages in dvc.yaml", file=sys.stderr)
        return 2
    die_with_parent()
    command = [name, *arguments]
    if not needs_fresh_process(name) and (code := in_fork(STAGE_COMMAND, command)) is not None:
        return code
    os.environ.pop(SOCKET, None)
    sys.argv = [STAGE_COMMAND, *command]
    runpy.run_module(STAGE_COMMAND, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_stage(sys.argv[1], sys.argv[2:]))
