"""A new method is one file: params name it, its settings are checked, and training uses its loss."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from redistill.config.file import validated
from redistill.distillation import methods
from redistill.distillation.methods.all_methods import all_methods
from redistill.distillation.methods.base import MethodParams
from redistill.provenance.code_identity import closure, folders

METHOD = """
    from typing import ClassVar, Literal

    from redistill.config.base import Positive, frozen
    from redistill.distillation.methods.base import Method, MethodParams, Need, MethodInputs


    @frozen
    class HalfTextParams(MethodParams):
        needs: ClassVar[frozenset[Need]] = frozenset({"text"})
        name: Literal["half_text"] = "half_text"
        share: Positive = 2

        def build(self, inputs: MethodInputs) -> Method:
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
    assert list(all_methods()) == ["logit", "on_policy", "online", "sequence"]
    assert all(kind.needs for kind in all_methods().values())


def test_all_wrong_settings_are_named_at_once() -> None:
    wrong = {"name": "logit", "max_tokens": 3, "beta": 0.1, "typo": 1}
    _, problems = validated(MethodParams, wrong, "finetune.method")
    assert problems == [
        "finetune.method: method logit has no setting beta, which is a setting of on_policy, online; no setting max_tokens, which is a setting of on_policy"
    ]
    assert validated(MethodParams, {"name": "logit", "typo": 1}, "finetune.method")[1] == ["finetune.method.typo is not a known key"]


@pytest.mark.parametrize("name", ['name: Literal["other"]', 'name: Literal["logit"] = "logit"'])
def test_a_file_without_a_name_of_its_own_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = textwrap.dedent(METHOD).replace('name: Literal["half_text"] = "half_text"', name).replace("HalfText", "Unnamed")
    (tmp_path / f"unnamed_{len(name)}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    with pytest.raises(TypeError, match=r"unnamed_\d+\.UnnamedParams: give it a name of its own"):
        all_methods()


def test_stages_of_the_teacher_do_not_depend_on_the_code_of_other_methods() -> None:
    packages, prefix = folders("redistill", "tasks"), "redistill.distillation.methods."
    used = {s: {m.removeprefix(prefix) for m in closure(f"tasks.stages.{s}", packages) if m.startswith(prefix)} for s in STAGES}
    assert used["tune_teacher"] == {"base", "sequence"}
    assert not used["score"] | used["generate"] | used["validate"]
    assert used["finetune"] == {"base", "all_methods", *all_methods()}


STAGES = ("tune_teacher", "score", "generate", "validate", "finetune")


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
        "finetune.method: method half_text has no setting beta, which is a setting of on_policy, online",
    ]
    losses = [json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["loss"] for name in ("half", "whole")]
    assert abs(4 * losses[0] - losses[1]) < 1e-3 * losses[1] > 0
