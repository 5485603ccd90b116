"""The code that each stage imports, as dvc.yaml must list it. `python -m tests.contract.code_deps --fix` writes it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
_CODE = re.compile(r"(?P<indent> *)# code\n(?P<lines>(?: *- (?:src|tasks)/\S+\n)*)")
_STAGE = re.compile(r"cmd: python -m tasks\.stage (\w+)")


def expected(graph: grimp.ImportGraph, stage: str) -> list[str]:
    """Files of the modules that ``tasks.STAGE`` imports, directly or not, lazily or not, and its own."""
    modules = graph.find_upstream_modules(f"tasks.{stage}") | {f"tasks.{stage}"}
    files = []
    for module in modules:
        base = (ROOT / "src" if module.startswith("redistill") else ROOT) / Path(*module.split("."))
        file = base.with_suffix(".py")
        if file.is_file():
            files.append(str(file.relative_to(ROOT)))
    return sorted(files)


def rewritten(text: str) -> str:
    graph = grimp.build_graph("redistill", "tasks", cache_dir=None)
    stages = _STAGE.findall(text)
    names = iter(stages)

    def block(match: re.Match[str]) -> str:
        indent = match["indent"]
        return f"{indent}# code\n" + "".join(f"{indent}- {f}\n" for f in expected(graph, next(names)))

    return _CODE.sub(block, text)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    file = ROOT / "dvc.yaml"
    wanted = rewritten(file.read_text())
    if "--fix" in sys.argv:
        file.write_text(wanted)
    elif wanted != file.read_text():
        sys.exit("error: dvc.yaml's code deps differ from the imports; run make deps")
