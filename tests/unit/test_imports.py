"""``redistill.provenance.imports``: which files a module runs, read from the text; a second implementation (grimp) must agree."""

from __future__ import annotations

import shutil
from pathlib import Path

import grimp
import pytest

from redistill.provenance.imports import closure, code_digest, folders
from tests.contract.code_deps import ROOT

FILES = {
    "pack/__init__.py": "",
    "pack/top.py": "import json\nfrom pack import lazy, value\nimport pack.inner.leaf\n",
    "pack/lazy.py": "def f():\n    from pack.hidden import x\n",
    "pack/hidden.py": "x = 1\n",
    "pack/inner/__init__.py": "",
    "pack/inner/leaf.py": "from . import beside\nfrom ..other import thing as renamed\n",
    "pack/inner/beside.py": "",
    "pack/other.py": "thing = 1\n",
    "pack/stranger.py": "from pack import top\n",
}


@pytest.fixture
def package(tmp_path: Path) -> dict[str, Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return {"pack": tmp_path / "pack"}


def test_imports_are_followed_wherever_they_stand(package: dict[str, Path]) -> None:
    names = ["pack", "pack.hidden", "pack.inner", "pack.inner.beside", "pack.inner.leaf", "pack.lazy", "pack.other", "pack.top"]
    assert list(closure("pack.top", package)) == names
    assert list(closure("pack.hidden", package)) == ["pack", "pack.hidden"]
    with pytest.raises(ModuleNotFoundError, match="pack.missing is no module of pack"):
        closure("pack.missing", package)


def test_the_digest_changes_with_what_is_imported_and_with_nothing_else(package: dict[str, Path]) -> None:
    before = code_digest("pack.top", package)
    for name, matters in (("hidden", True), ("top", True), ("inner/beside", True), ("stranger", False)):
        with open(package["pack"] / f"{name}.py", "a", encoding="utf-8") as file:
            file.write("y = 2\n")
        now = code_digest("pack.top", package)
        assert (now != before) == matters, name
        before = now


def test_another_implementation_finds_the_same_files() -> None:
    graph = grimp.build_graph("redistill", "tasks", cache_dir=None)
    for stage in ("benchmark", "finetune", "sweep", "prepare"):
        wanted = {m for m in graph.find_upstream_modules(f"tasks.stages.{stage}") if not graph.find_children(m)} | {f"tasks.stages.{stage}"}
        found = closure(f"tasks.stages.{stage}", folders("redistill", "tasks"))
        assert {name for name, file in found.items() if file.name != "__init__.py"} == wanted


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        ("tasks/stages/benchmark.py", True),
        ("tasks/running/stage_command.py", True),
        ("redistill/runtime/precision.py", True),
        ("redistill/evaluation/lm_eval.py", True),
        ("redistill/teacher/openai.py", True),
        ("tasks/stages/prepare.py", False),
        ("redistill/validation/filters/language.py", False),
    ],
)
def test_what_a_benchmark_remembers_is_bound_to_the_code_that_measured(tmp_path: Path, file: str, matters: bool) -> None:
    """The stage's own file was missing from a list that was kept by hand; an edit of it gave back the old report."""
    for name, source in (("redistill", ROOT / "src" / "redistill"), ("tasks", ROOT / "tasks")):
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    packages = {name: tmp_path / name for name in ("redistill", "tasks")}
    before = code_digest("tasks.stages.benchmark", packages)
    with open(tmp_path / file, "a", encoding="utf-8") as handle:
        handle.write("CHANGED = True\n")
    assert (code_digest("tasks.stages.benchmark", packages) != before) == matters
