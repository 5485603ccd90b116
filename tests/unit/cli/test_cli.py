"""The command as a user types it: one line and an exit code for what is wrong, and ``--json`` that a script can read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMAND = str(Path(sys.executable).parent / "redistill")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def redistill(directory: Path, *arguments: str) -> Ran:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("REDISTILL_", "PYTHONPATH", "COLUMNS", "NO_COLOR"))}
    command = [COMMAND, *arguments]
    done = subprocess.run(command, cwd=directory, env=clean, capture_output=True, text=True, timeout=60, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def one_line(ran: Ran, code: int, *words: str) -> None:
    """An error that is meant for the user: nothing on stdout, one line on stderr, no traceback."""
    assert (ran.code, ran.out) == (code, ""), ran
    assert ran.err.startswith("error: ") and ran.err.count("\n") == 1 and "Traceback" not in ran.err, ran.err
    assert all(word in ran.err for word in words), ran.err


def test_help_names_commands_and_exit_codes_without_a_project(tmp_path: Path) -> None:
    ran = redistill(tmp_path, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert all(f" {name} " in ran.out for name in ("run", "lock", "status", "watch", "route", "report"))
    assert "2 usage or config" in " ".join(ran.out.replace("│", " ").split())


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from redistill.cli.app import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    heavy = {"torch", "transformers", "prefect", "mlflow", "dvc", "pandas", "lm_eval", "great_expectations", "sklearn", "pyarrow"}
    assert "redistill.cli.app" in loaded and not loaded & heavy


def test_an_unknown_directory(tmp_path: Path) -> None:
    one_line(redistill(tmp_path, "-C", "nowhere", "route", "get", "--json"), 2, "nowhere", "no such directory")
    (tmp_path / "file").touch()
    one_line(redistill(tmp_path, "-C", "file", "status"), 2, "file")


@pytest.mark.parametrize("command", ["run", "watch"])
def test_no_project_here(tmp_path: Path, command: str) -> None:
    one_line(redistill(tmp_path, command, "--json"), 2, "-C DIR")


def test_params_without_stages_are_no_project(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    one_line(redistill(tmp_path, "run"), 2, "has no dvc.yaml", "-C DIR", "redistill init DIR")


def test_a_report_that_was_never_written_is_one_line(tmp_path: Path) -> None:
    one_line(redistill(tmp_path, "report", "--json"), 3, "no cycle has written a report here yet; start one with `redistill run`")


BROKEN = {
    "not YAML": ("data: [1, 2\nmore: {", "not valid YAML"),
    "unknown key": ((ROOT / "params.yaml").read_text(encoding="utf-8") + "extra: {a: 1}\n", "extra is not a known key"),
    "impossible": ("promote: {margin: 2}\ngenerate: {max_tokens: -1}\n", "promote.margin"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN)
def test_broken_params(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "params.yaml").write_text(content, encoding="utf-8")
    one_line(redistill(tmp_path, "run", "--json"), 2, "params.yaml", said)


@pytest.mark.parametrize("arguments", [["fly"], ["route", "set", "teacher", "--resaon", "x"]])
def test_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    ran = redistill(tmp_path, *arguments)
    assert (ran.code, ran.out) == (2, "") and "Usage: redistill" in ran.err and "Traceback" not in ran.err


def test_the_route_is_set_and_told_in_an_empty_directory(tmp_path: Path) -> None:
    told = json.loads(redistill(tmp_path, "route", "get", "--json").out.splitlines()[-1])
    assert told == {
        "answers": "teacher",
        "pin": "none",
        "mode": "teacher",
        "model_version": None,
        "share": 1.0,
        "teacher_slices": [],
        "reason": "no readable route",
        "changed_at": "",
        "teacher": "",
        "cascade": None,
        "rollout": None,
    }
    ran = redistill(tmp_path, "route", "set", "teacher", "--reason", "incident é 12", "--json")
    assert (ran.code, ran.err) == (0, "") and json.loads(ran.out.splitlines()[-1]) == {"answers": "teacher", "pin": "teacher"}
    assert (tmp_path / "artifacts" / "route" / "flags.json").is_file()
    shown = redistill(tmp_path.parent, "-C", str(tmp_path), "route", "get").out
    assert "incident é 12" in shown and [line.split()[:2] for line in shown.splitlines()][:2] == [
        ["answers", "teacher"],
        ["pin", "teacher"],
    ]
    ran = redistill(tmp_path, "route", "set", "auto", "--reason", "over")
    assert (ran.code, ran.out, ran.err) == (0, "teacher responds (pin: none)\n", "")
    ran = redistill(tmp_path, "route", "share", "5", "--reason", "first day")
    assert (ran.code, ran.out) == (0, "5 % of the keys go to the live system (teacher)\n")
    ran = redistill(tmp_path, "route", "slices", "business", "--reason", "audit")
    assert (ran.code, ran.out) == (0, "slices that the teacher always answers: business\n")
    assert redistill(tmp_path, "route", "share", "101", "--reason", "x").code == 2


def test_a_route_that_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    one_line(redistill(tmp_path, "route", "set", "student", "--reason", "I am sure"), 2, "no student has been promoted yet")
    one_line(redistill(tmp_path, "route", "set", "canary", "--reason", "x"), 2, "set teacher, student or auto")
    one_line(redistill(tmp_path, "route", "set", "teacher"), 2, "--reason")
    assert list(tmp_path.iterdir()) == []


def test_a_route_that_cannot_be_written_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "artifacts").touch()
    one_line(redistill(tmp_path, "route", "set", "teacher", "--reason", "x"), 3, "artifacts")


def test_debug_shows_the_traceback_and_keeps_the_exit_code(tmp_path: Path) -> None:
    ran = redistill(tmp_path, "--debug", "run")
    assert "Traceback (most recent call last)" in ran.err and "ConfigError: params.yaml not found" in ran.err
    assert ran.code == 2
