"""``python -m tasks.running.run_stage NAME [ARGUMENT ...]``: runs ``tasks.stages.NAME``, in a fork of the cycle's fork server where there is one.

The commands of dvc.yaml go through here, because this module imports nothing heavy: a stage that runs in a fork must not pay
for its imports in the process that only asks for the fork.
"""

from __future__ import annotations

import os
import runpy
import sys

from tasks.running import fork_server


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
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return True


def main(arguments: list[str]) -> int:
    if not arguments or not arguments[0].isidentifier():
        print(
            "error: usage: python -m tasks.running.run_stage NAME [ARGUMENT ...], as in python -m tasks.running.run_stage finetune kd",
            file=sys.stderr,
        )
        return 2
    name, *rest = arguments
    if not os.path.isfile(os.path.join(os.path.dirname(os.path.dirname(__file__)), "stages", f"{name}.py")):
        print(f"error: there is no stage {name}; dvc.yaml lists the stages", file=sys.stderr)
        return 2
    fork_server.die_with_parent()
    if not needs_fresh_process(name) and (code := fork_server.in_fork(f"tasks.stages.{name}", rest)) is not None:
        return code
    os.environ.pop(fork_server.SOCKET, None)
    sys.argv = [f"tasks.stages.{name}", *rest]
    runpy.run_module(f"tasks.stages.{name}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
