"""A new method is one file: params name it, its settings are checked, and training uses its loss."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from redistill.distillation.methods.known import known_methods

METHOD = """
    from typing import ClassVar, Literal

    from redistill.config.base import Positive, frozen
    from redistill.distillation.methods.base import Method, MethodParams, Need, Surroundings


    @frozen
    class HalfTextParams(MethodParams):
        needs: ClassVar[frozenset[Need]] = frozenset({"text"})
        name: Literal["half_text"] = "half_text"
        share: Positive = 2

        def build(self, surroundings: Surroundings) -> Method:
            return HalfText(self.share)


    class HalfText(Method):
        def __init__(self, share: int) -> None:
            self._share = share

        def loss(self, hidden_BLD, head_VD, batch, workspace=None):
            from redistill.distillation.losses.fused_head import distill_loss

            sums = distill_loss(hidden_BLD[batch.supervised_BL], head_VD, batch.targets(), workspace=workspace)
            return sums._replace(total=sums.total / self._share)
"""
USE = """
    import sys
    from pathlib import Path

    from redistill.distillation import methods

    methods.__path__.append(sys.argv[1])
    from redistill.config.file import validated
    from redistill.distillation.arm_params import ArmParams, FinetuneParams
    from redistill.distillation.methods.base import MethodParams

    assert "torch" not in sys.modules
    print(validated(MethodParams, {"name": "half_text", "share": 4}, "finetune.method")[0].share)
    print(validated(MethodParams, {"name": "half_text", "beta": 0.1}, "finetune.method")[1][0])
    arm = validated(ArmParams, {"rows": "gold_and_teacher", "alpha": 0.5, "method": "half_text"}, "finetune.arms.kd")[0]
    assert arm.learns_by(arm.method).name == "half_text"

    from redistill.distillation.training.examples import Examples, Supervision
    from redistill.distillation.training.loop import train
    from redistill.distillation.training.recipe import Recipe
    from redistill.models.checkpoints import load_model
    from redistill.models.tokenizers import load_tokenizer
    from tests.tiny import method_of, training_rows

    tokenizer = load_tokenizer(sys.argv[2])
    examples = Examples(training_rows(tokenizer, 8), {}, Supervision())
    method = method_of("half_text", tokenizer, share=4)
    for name, way in (("half", method), ("whole", method_of("sequence", tokenizer))):
        recipe = Recipe(10, 8, 1, 1e-12, 0.0, 0.0, 7, 10**6, precision="fp32")
        train(load_model(sys.argv[2]), tokenizer, examples, recipe, Path(sys.argv[3]) / name, method=way)
"""


def test_every_file_with_settings_is_known() -> None:
    assert list(known_methods()) == ["logit", "on_policy", "online", "sequence"]
    assert all(kind.needs for kind in known_methods().values())


def test_a_new_method_is_one_file(tmp_path: Path, tiny_model_dir: Path) -> None:
    import json

    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "half_text.py").write_text(textwrap.dedent(METHOD), encoding="utf-8")
    command = [sys.executable, "-c", textwrap.dedent(USE), str(folder), str(tiny_model_dir), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "4",
        "finetune.method: method half_text has no setting beta; it is a setting of on_policy, online",
    ]
    losses = [json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["loss"] for name in ("half", "whole")]
    assert abs(4 * losses[0] - losses[1]) < 1e-3 * losses[1] > 0
