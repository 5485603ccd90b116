"""What a stage's receipt says of its seconds: real DVC, a stage that says what it found of an earlier run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import dvc_stage
from tasks.warm import Warm

PIPELINE = """
stages:
  whole:
    cmd: python -c "open('whole', 'w').write('1'); print('[whole] 1/1 rows')"
    outs: [whole]
  resumed:
    cmd: python -c "from redistill.progress import continues; continues('resumed', 'from step 40'); open('resumed', 'w').write('1')"
    outs: [resumed]
"""


def test_a_stage_that_continues_an_earlier_run_is_not_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    dvc_stage.initialise()
    plan, said = dvc_stage.Plan(), list[str]()
    with Warm(()) as warm:
        receipts = [dvc_stage.run_stage.fn(stage, plan, warm, said.append, lambda *_: None) for stage in ("whole", "resumed")]
    assert [(r.stage, r.outcome, r.whole) for r in receipts] == [("whole", "ran", True), ("resumed", "ran", False)]
    assert "[resumed] continues: from step 40" in said
