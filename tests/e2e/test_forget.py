"""``redistill forget`` on a project after a whole cycle: the prompt is gone, and what was signed still verifies."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from redistill.data.forgotten import forgotten_digests, tombstone_digest
from redistill.data.traffic.types import LoggedRequest
from redistill.data.types import Message, Prompt
from redistill.io.parquet import read_records, write_records
from redistill.operations.traces import Traces, holds
from tests.cycles import Command, FirstCycle, asking

pytestmark = pytest.mark.cycles


@pytest.fixture(scope="module")
def project(first_cycle: FirstCycle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # MLflow's store names its folder, so the copy has registered nothing and the cycle registers again.
    return Path(shutil.copytree(first_cycle.template, tmp_path_factory.mktemp("forget") / "project", symlinks=True))


@pytest.fixture(scope="module")
def ask(project: Path, redistill: Command) -> Any:
    asked = asking(redistill, project)
    asked("run", "--json", "--reason", "first")
    return asked


def rows(project: Path, split: str) -> list[Prompt]:
    read: list[Prompt] = read_records(project / f"artifacts/prompts/{split}.parquet", Prompt)
    return read


def still_in(project: Path, prompt: Prompt) -> list[str]:
    """Every file of the project that holds a prompt, apart from the user's own data."""
    traces = Traces(frozenset({prompt.id}), tuple(m.content for m in prompt.messages))
    folders = ("artifacts", ".redistill", ".dvc")
    left_out = (".redistill/teacher", ".redistill/models", ".redistill/forgotten")
    every = [file for folder in folders for file in (project / folder).rglob("*") if file.is_file() and not file.is_symlink()]
    named = [(file, file.relative_to(project).as_posix()) for file in every]
    kept = [name for file, name in named if not name.startswith(left_out) and holds(file, traces)]
    raw = [name for file, name in named if file.suffix in (".sqlite", ".db") and prompt.messages[-1].content.encode() in file.read_bytes()]
    return kept + raw


def passes(ask: Any) -> None:
    """Verify, lineage and gate of version 1."""
    links = ask("lineage", "1", "--json").result
    assert "signed evidence" in json.dumps(links)
    ask("gate", "1", "--json")


def test_a_training_row_is_gone_and_the_version_that_it_trained_is_named(project: Path, ask: Any) -> None:
    prompt = rows(project, "train")[0]
    assert len(prompt.messages[-1].content) >= 16 and len(still_in(project, prompt)) >= 2
    seen = ask("forget", prompt.source_id, "--dry-run", "--json").result
    assert prompt.id in seen["prompts"] and not (project / "forgotten.jsonl").exists() and len(still_in(project, prompt)) >= 2
    assert "give a reason with --reason" in ask("forget", prompt.source_id, code=2).stderr
    result = ask("forget", prompt.source_id, "--reason", "the customer asked", "--json").result
    assert result["trained"] == ["1"] and result["unknown"] == [] and result["problems"] == []
    assert still_in(project, prompt) == []
    [line] = (project / "forgotten.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["digest"] == tombstone_digest(prompt.id) and prompt.messages[-1].content not in line and prompt.id not in line
    assert any("labelled.jsonl" in note for note in result["notes"])
    passes(ask)


def test_a_pool_row_and_its_completions_are_gone(project: Path, ask: Any) -> None:
    prompt = rows(project, "pool")[0]
    store = project / ".redistill/store/completions.sqlite"

    def stored() -> int:
        with sqlite3.connect(store) as database:
            return int(
                database.execute("SELECT count(*) FROM answers JOIN prompts USING (key) WHERE prompt = ?", (prompt.id,)).fetchone()[0]
            )

    before = stored()
    assert before > 0
    result = ask("forget", prompt.id, "--reason", "the customer asked", "--json").result
    assert result["completions"] == before and stored() == 0 and still_in(project, prompt) == []
    assert result["trained"] in (["1"], []) and result["unknown"] == []
    passes(ask)


def test_a_request_of_the_traffic_is_gone_with_its_prompt(project: Path, ask: Any) -> None:
    texts = ("please forget this one request", "and keep this one request")
    folder = project / ".redistill/traffic"
    logged = [
        LoggedRequest(
            f"request{n}", time.time(), Prompt.of((Message("user", text),), "", "", None, "").id, (Message("user", text),), (), "app",
            "teacher", "teacher", "mode", "1", None, None, "card", 0, "router", "c", "l",
        )
        for n, text in enumerate(texts)
    ]  # fmt: skip
    write_records(folder / "0000000000001-a.parquet", LoggedRequest, logged)
    result = ask("forget", "request0", "--reason", "the customer asked", "--json").result
    assert result["prompts"] == [logged[0].prompt_id] and result["trained"] == []
    assert [row.id for row in read_records(folder / "0000000000001-a.parquet", LoggedRequest)] == ["request1"]
    assert "no prompt, row or request here is called 'request0'" in ask("forget", "request0", "--reason", "again", code=3).stderr


def test_a_shown_row_is_gone_from_signed_bundles_which_still_verify(project: Path, ask: Any) -> None:
    prompt = rows(project, "heldout")[0]
    result = ask("forget", prompt.id, "--reason", "the customer asked", "--json").result
    assert [bundle["version"] for bundle in result["bundles"]] and result["problems"] == [], result
    assert any("benchmark/kd/outcomes.parquet" in bundle["files"] for bundle in result["bundles"])
    assert still_in(project, prompt) == []
    links = ask("lineage", "1", "--json").result
    assert "signed evidence" in json.dumps(links)


def test_a_forgotten_prompt_does_not_come_back(project: Path, ask: Any) -> None:
    digests = forgotten_digests(project / "forgotten.jsonl")
    assert len(digests) == 4
    ask("run", "--json", "--reason", "after")
    for split in ("train", "dev", "pool", "calibration", "heldout"):
        assert not [p for p in rows(project, split) if tombstone_digest(p.id) in digests]
    quarantined = [row for row in ask_quarantine(project) if row.filter == "forgotten"]
    assert len(quarantined) == 3 and {row.redacted for row in quarantined} == {""}
    ask("gate", "1", "--json")


def ask_quarantine(project: Path) -> list[Any]:
    from redistill.validation.types import DroppedRow

    return read_records(project / "artifacts/prompts/quarantine.parquet", DroppedRow)
