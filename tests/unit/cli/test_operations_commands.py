"""gc, backup and restore as a user types them: what is wrong is one line and an exit code, and nothing has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.test_cli import one_line, redistill


@pytest.mark.parametrize("arguments", [("gc",), ("gc", "--dry-run", "--json"), ("backup", "archive.tar.gz")])
def test_outside_of_a_project(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    one_line(redistill(tmp_path, *arguments), 2, "has no params.yaml", "-C DIR")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_restored(tmp_path: Path) -> None:
    one_line(redistill(tmp_path, "restore", "archive.tar.gz"), 3, "archive.tar.gz: no such file in")
    (tmp_path / "archive.tar.gz").write_text("no archive", encoding="utf-8")
    one_line(redistill(tmp_path, "restore", "archive.tar.gz", "--json"), 3, "is damaged, or is not an archive of `redistill backup`")
    assert [p.name for p in tmp_path.iterdir()] == ["archive.tar.gz"]


def test_a_directory_in_which_a_restore_was_interrupted_is_no_project(tmp_path: Path) -> None:
    (tmp_path / ".redistill-restore").mkdir()
    (tmp_path / ".redistill-restore/verified.json").write_text('{"id": "x"}', encoding="utf-8")
    one_line(redistill(tmp_path, "status"), 2, "a restore was interrupted here", "run the same `redistill restore` again")


def test_help_teaches(tmp_path: Path) -> None:
    for command, words in {
        "gc": ("history and the looks", "redistill gc --dry-run", "run it again"),
        "backup": ("signing key", "redistill backup /backups"),
        "restore": ("must be empty", "run the same command again"),
    }.items():
        told = " ".join(redistill(tmp_path, command, "--help").out.replace("│", " ").split())
        assert all(word in told for word in words), (command, told)
