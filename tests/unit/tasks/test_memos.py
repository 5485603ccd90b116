"""An edited memory of a measurement is refused: in the stage that measures, and where a version is judged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from redistill.data.types import Prompt
from redistill.io.parquet import write_records
from redistill.params import load_params
from redistill.provenance import keys
from tasks.locking.code_lock import lock_code
from tasks.paths import STATE
from tasks.results.memos import remember, remembered
from tasks.stages.benchmark import benchmark_checkpoint
from tests.tiny_project import make_tiny_project


@pytest.fixture
def memo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in (keys.SIGNING_KEY, keys.VERIFY_KEY):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    folder = Path(".redistill/evaluations/abc")
    folder.mkdir(parents=True)
    (folder / "report.json").write_text('{"right": 60}', encoding="utf-8")
    remember(folder)
    return folder


def test_what_was_signed_is_remembered(memo: Path) -> None:
    assert remembered(memo) and not remembered(memo.with_name("other"))


@pytest.mark.parametrize("attack", ["edited", "added", "swapped", "its signature is gone", "another's signature", "another key"])
def test_what_was_edited_is_not(memo: Path, attack: str, capsys: pytest.CaptureFixture[str]) -> None:
    signatures = STATE / "memo-signatures"
    if attack == "edited":
        (memo / "report.json").write_text('{"right": 200}', encoding="utf-8")
    elif attack == "added":
        (memo / "outcomes.parquet").write_bytes(b"")
    elif attack == "swapped":
        shutil.copytree(memo, memo.with_name("good"))
        remember(memo.with_name("good"))
        shutil.copy(signatures / "good.sig", signatures / "abc.sig")
    elif attack == "its signature is gone":
        (signatures / "abc.sig").unlink()
    elif attack == "another's signature":
        (signatures / "abc.sig").write_bytes(b"\xff\x00")
    else:
        text = f"memo\nabc\n{'0' * 64}"
        (signatures / "abc.sig").write_text(keys.sign_text(text, keys.signing_key(Path("stranger"))), encoding="utf-8")
    assert not remembered(memo)
    assert "is not what was measured and signed on this machine, so it is not used" in capsys.readouterr().out


def test_where_the_key_is_lost_nothing_is_remembered(memo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (STATE / "keys" / "signing.pem").unlink()
    assert remembered(memo), "the public half still verifies"
    remember(memo.with_name("abc"))
    assert "is not remembered, because it cannot be signed" in capsys.readouterr().out


def test_the_benchmark_measures_again_what_was_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_tiny_project(tmp_path / "project", benchmark__fairness=None))
    params = load_params()
    prompts = _prompts()
    write_records(Path("artifacts/prompts/heldout.parquet"), Prompt, prompts)
    lock_code()
    benchmark_checkpoint("kd", Path("teacher"), Path("out"), params.data, params.benchmark)
    [memo] = [path for path in (STATE / "evaluations").iterdir() if path.is_dir()]
    honest = (memo / "outcomes.parquet").read_bytes()
    report = json.loads((memo / "report.json").read_text(encoding="utf-8"))
    (memo / "report.json").write_text(json.dumps({**report, "exact_match": {**report["exact_match"], "value": 1.0}}), encoding="utf-8")
    benchmark_checkpoint("kd", Path("teacher"), Path("again"), params.data, params.benchmark)
    assert json.loads(Path("again/report.json").read_text(encoding="utf-8"))["exact_match"] == report["exact_match"]
    assert (memo / "outcomes.parquet").read_bytes() == honest and remembered(memo)


def _prompts() -> list[Prompt]:
    from redistill.data.types import Message

    return [Prompt.of((Message("user", f"my card {i}"),), str(i), "app", "pin", "heldout") for i in range(4)]
