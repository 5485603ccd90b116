"""The code that each stage imports, as dvc.yaml must list it. `python -m tests.contract.code_deps --fix` writes it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from redistill.provenance.imports import closure

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"redistill": ROOT / "src" / "redistill", "tasks": ROOT / "tasks"}
_CODE = re.compile(r"(?P<indent> *)# code\n(?P<lines>(?: *- (?:src|tasks)/\S+\n)*)")
_STAGE = re.compile(r"cmd: python -m tasks\.running\.run_stage (\w+)")


def expected(stage: str) -> list[str]:
    """Files of the modules that ``tasks.STAGE`` imports, directly or not, lazily or not, and its own."""
    files = closure(f"tasks.stages.{stage}", PACKAGES).values()
    return sorted(str(file.relative_to(ROOT)) for file in files if file.name != "__init__.py")


def rewritten(text: str) -> str:
    names = iter(_STAGE.findall(text))

    def block(match: re.Match[str]) -> str:
        indent = match["indent"]
        return f"{indent}# code\n" + "".join(f"{indent}- {f}\n" for f in expected(next(names)))

    return _CODE.sub(block, text)


if __name__ == "__main__":
    file = ROOT / "dvc.yaml"
    wanted = rewritten(file.read_text())
    if "--fix" in sys.argv:
        file.write_text(wanted)
    elif wanted != file.read_text():
        sys.exit("error: dvc.yaml's code deps differ from the imports; run make deps")
