"""Which stages may be forks of the cycle's fork server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.running.run_stage import needs_fresh_process


@pytest.mark.parametrize(
    ("params", "fresh"),
    [
        ("teacher: {backend: vllm}", True),
        ("teacher: {model: m}", True),
        ("teacher: {backend: transformers}", False),
        ("teacher: {backend: openai}", False),
        ("teacher: [", True),
        ("teacher:", True),
        ("data: {}", True),
        ("", True),
        (None, True),
    ],
)
def test_only_vllm_needs_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: str | None, fresh: bool) -> None:
    monkeypatch.chdir(tmp_path)
    if params is not None:
        (tmp_path / "params.yaml").write_text(params, encoding="utf-8")
    assert needs_fresh_process("generate") is fresh
    assert not needs_fresh_process("finetune")
