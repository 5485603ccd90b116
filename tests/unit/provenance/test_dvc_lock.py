"""``redistill.provenance.dvc_lock``: DVC's digests as DVC itself computes them, and what was made from what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from redistill.errors import DataError
from redistill.provenance import dvc_lock
from redistill.runtime.environment import child_environment


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real DVC project: one stage makes a folder, the next a file from it."""
    path = tmp_path_factory.mktemp("dvc")
    folder = "import pathlib as p; [p.Path(f).parent.mkdir(parents=True, exist_ok=True) or p.Path(f).write_text(f) for f in ('out/b/x.txt', 'out/b-1.txt', 'out/a.txt', 'out/b/ä.txt')]"
    stages = {
        "first": {"cmd": f'python -c "{folder}"', "outs": ["out"]},
        "aside": {"cmd": "echo aside > aside.txt", "outs": ["aside.txt"]},
        "last": {"cmd": "cat out/a.txt > last.txt", "deps": ["out/a.txt"], "outs": ["last.txt"], "params": [{"lock.json": ["teacher"]}]},
    }
    (path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    (path / "lock.json").write_text('{"teacher": 1}', encoding="utf-8")
    for command in (["init", "--no-scm", "-q"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=path, env=child_environment(), check=True, capture_output=True)
    return path


def test_digests_of_files_and_folders_are_dvcs(project: Path) -> None:
    stages = dvc_lock.read(project / "dvc.lock")
    outs = {out.path: out.md5 for stage in stages.values() for out in stage.outs}
    assert outs["out"].endswith(".dir")
    assert {path: dvc_lock.md5_of(project / path) for path in outs} == outs
    assert dvc_lock.md5_of(project / "nowhere") is None


def test_ancestors_come_first_and_strangers_do_not(project: Path) -> None:
    stages = dvc_lock.read(project / "dvc.lock")
    assert [s.name for s in dvc_lock.ancestors(stages, "last")] == ["first", "last"]
    assert [s.name for s in dvc_lock.ancestors(stages, "last", {"lock.json": "aside"})] == ["first", "aside", "last"]
    with pytest.raises(DataError, match="no stage nothing; its stages are aside, first, last"):
        dvc_lock.ancestors(stages, "nothing")


def test_the_cache_is_whole_changed_or_missing(project: Path) -> None:
    cache = project / ".dvc" / "cache"
    stages = dvc_lock.read(project / "dvc.lock")
    folder, file = stages["first"].outs[0].md5, stages["last"].outs[0].md5
    assert dvc_lock.cached(cache, folder) is True and dvc_lock.cached(cache, file) is True
    entry = cache / "files" / "md5" / file[:2] / file[2:]
    content = entry.read_bytes()
    entry.chmod(0o644)
    entry.write_bytes(b"forged")
    assert dvc_lock.cached(cache, file) is False and dvc_lock.cached(cache, folder) is False, "the folder's a.txt is the same content"
    entry.unlink()
    assert dvc_lock.cached(cache, file) is None and dvc_lock.cached(cache, folder) is None
    entry.write_bytes(content)
    assert dvc_lock.cached(cache, "0" * 32) is None


@pytest.mark.parametrize("text", ["", "stages: [", "other: 1", "stages: {a: {outs: [{path: x}]}}"])
def test_what_is_no_lock_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvc.lock").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"is not a dvc\.lock"):
        dvc_lock.read(tmp_path / "dvc.lock")
    with pytest.raises(DataError, match=r"is not a dvc\.lock"):
        dvc_lock.read(tmp_path / "nowhere")
