"""params.yaml: every wrong file is one error with the key's path; every problem is reported at once."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from redistill.data.grammars.record import RecordGrammar
from redistill.data.params import DEFAULT_SPLITS
from redistill.distillation.methods.logit import LogitParams
from redistill.errors import ConfigError
from redistill.params import Params, load_params, parse_params

REVIEW = {
    "name": "teacher", "covers": "teacher", "licence": "Apache-2.0", "terms_sha256": "0" * 64, "terms": "LICENSE", "reviewer": "R. Viewer",
    "reviewed": "2026-01-31", "expires": "2027-01-31", "allowed": True,
}  # fmt: skip
MINIMAL: dict[str, Any] = {
    "data": {"name": "bank-triage", "source": "rows.jsonl", "task": "record", "record": {"labels": ["fee", "pin"], "flags": ["urgent"]}},
    "intake": {},
    "governance": {"licenses": [REVIEW]},
    "teacher": {"model": "package:weights/teacher.gguf"},
    "tune_teacher": {},
    "generate": {},
    "validate": {},
    "score": {},
    "student": {"model": "package:weights/teacher.gguf", "layers": {"keep": 8}},
    "finetune": {
        "method": "logit",
        "common": {"tokens": 10_000},
        "arms": {"gold": {"rows": "gold"}, "kd": {"rows": "gold_and_teacher", "alpha": 0.5}},
    },
    "benchmark": {},
    "promote": {},
    "sweep": {"layers": []},
}
GONE = object()


def changed(**changes: Any) -> dict[str, Any]:
    """The minimal tree with keys set (``section__key=value``) or removed (``GONE``)."""
    tree = copy.deepcopy(MINIMAL)
    for path, value in changes.items():
        *above, key = path.split("__")
        node = tree
        for part in above:
            node = node[part]
        if value is GONE:
            del node[key]
        else:
            node[key] = value
    return tree


def refused(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_params(changed(**changes))
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    return str(caught.value)


def test_minimal_tree_takes_every_default() -> None:
    params = parse_params(MINIMAL)
    assert isinstance(params, Params)
    assert params.data.source[0].path == "rows.jsonl" and params.data.source[0].splits == DEFAULT_SPLITS
    assert sum(DEFAULT_SPLITS.values()) == pytest.approx(1.0)
    assert params.data.grammar == RecordGrammar(("fee", "pin"), ("urgent",), (), False)
    assert params.finetune.arms["kd"].temperature == 1.0 and params.finetune.common.supervise == "completion"
    assert str(params.governance.licenses[0].expires) == "2027-01-31"
    assert parse_params(changed(data__task="generation", data__record=GONE)).data.grammar is None


def test_an_arm_may_differ_from_the_method_of_the_others() -> None:
    arms = {"gold": {"rows": "gold"}, "kd": KD, "own": {**KD, "method": {"name": "on_policy", "divergence": "jsd", "beta": 0.2}}}
    fine = parse_params(changed(finetune__method="online", finetune__arms=arms)).finetune
    assert [fine.arms[a].learns_by(fine.method).name for a in ("gold", "kd", "own")] == ["sequence", "online", "on_policy"]
    assert fine.arms["own"].learns_by(fine.method).divergence == "jsd"
    assert parse_params(changed(finetune__method="online", finetune__arms__kd={**KD, "temperature": 2.0})), (
        "a whole distribution has every T"
    )


@pytest.mark.parametrize(("divergence", "beta"), [("jsd", 0.5), ("skew_kl", 0.1), ("skew_reverse_kl", 0.1)])
def test_a_mixture_has_the_beta_of_its_authors_unless_params_say_one(divergence: str, beta: float) -> None:
    """0.1 is DistiLLM's skew; at 0.5 GKD's divergence is the symmetric Jensen-Shannon one."""
    method = {"name": "online", "divergence": divergence}
    assert parse_params(changed(finetune__method=method)).finetune.method.mixture_beta == beta
    assert parse_params(changed(finetune__method={**method, "beta": 0.3})).finetune.method.mixture_beta == 0.3


def test_params_are_frozen() -> None:
    params = parse_params(MINIMAL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.data.name = "other"  # type: ignore[misc]


def test_sources_with_their_own_splits() -> None:
    sources = [{"path": "a.jsonl", "splits": {"train": 0.8, "dev": 0.2}}, {"path": "b.jsonl", "splits": {"heldout": 1.0}}]
    assert [s.path for s in parse_params(changed(data__source=sources)).data.source] == ["a.jsonl", "b.jsonl"]


KD = {"rows": "gold_and_teacher", "alpha": 0.5}


def test_a_method_that_needs_what_nothing_provides_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogitParams, "needs", frozenset({"text", "teacher_logprobs"}))
    with pytest.raises(
        ConfigError, match="method logit needs log-probabilities from a running teacher during training, which no teacher.backend"
    ):
        parse_params(changed())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"finetune__method": "kl"}, "finetune.method: unknown method 'kl'; the methods are logit, on_policy, online, sequence"),
        (
            {"finetune__method": {"name": "logit", "divergence": "reverse_kl"}},
            "finetune.method: method logit has no setting divergence, which is a setting of on_policy, online",
        ),
        ({"finetune__method": {"name": "online", "beta": 1.0}}, "finetune.method.beta"),
        ({"finetune__method": {"name": "on_policy", "on_policy_fraction": 1.5}}, "finetune.method.on_policy_fraction"),
        (
            {"finetune__method": "sequence"},
            "alpha=0.5 weighs the teacher's probabilities, which method sequence does not use; set alpha to 0",
        ),
        ({"finetune__method": "online", "teacher__backend": "openai"}, "method online needs the teacher's weights in memory"),
        (
            {"finetune__arms__kd": {**KD, "method": "on_policy"}, "teacher__backend": "openai"},
            "method on_policy needs the teacher's weights",
        ),
        ({"finetune__arms__kd": {**KD, "alpha": 1.5}}, "finetune.arms.kd.alpha"),
        ({"finetune__arms__kd": {**KD, "alpha": -0.1}}, "finetune.arms.kd.alpha"),
        ({"finetune__arms__kd": {**KD, "temperature": 2.0}}, "a stored top-k cannot be used at another temperature without its log Z_T"),
        ({"finetune__common__processes": 3}, "batch_size 16 cannot be shared by 3 processes"),
        ({"score__bits": 3}, "score.bits"),
        ({"sweep__layers": [0]}, "sweep.layers.0: 0 is neither a number of layers nor the word teacher"),
        ({"sweep": {}}, "sweep.layers is missing"),
        ({"sweep__layers": [6, 3, 6]}, "sweep.layers lists a number twice"),
        ({"tune": {"space": {"alpha": [0.9, 0.1]}}}, "alpha: [0.9, 0.1] must be two ends, the smaller first"),
        ({"tune": {"space": {"alpha": [0.0, 1.0]}}}, "the range must begin above 0"),
        ({"tune": {"space": {"temperature": [1.0, 2.0]}}}, "tune.space.temperature=2 is not in score.temperatures"),
        ({"teacher": GONE}, "teacher is missing"),
        ({"finetune__common__tokens": GONE}, "finetune.common.tokens is missing"),
        ({"techer": {}}, "techer is not a known key"),
        ({"finetune__common__lr": 1e-3}, "finetune.common.lr is not a known key"),
        ({"intake__max_chars": "many"}, "intake.max_chars: Input should be a valid integer"),
        ({"intake": None}, "intake: Input should be a dictionary"),
        ({"generate__temperature": -0.5}, "generate.temperature: Input should be greater than or equal to 0 (given: -0.5)"),
        ({"generate__top_p": 0.0}, "generate.top_p: Input should be greater than 0 (given: 0.0)"),
        ({"validate__min_kept_share": 1.5}, "validate.min_kept_share: Input should be less than or equal to 1 (given: 1.5)"),
        ({"finetune__common__learning_rate": float("nan")}, "finetune.common.learning_rate"),
        ({"finetune__arms__kd__rows": "all"}, "finetune.arms.kd.rows: Input should be 'gold' or 'gold_and_teacher' (given: 'all')"),
        ({"teacher__backend": "llama"}, "teacher.backend"),
        ({"data__name": "Bank Triage"}, "data.name"),
        ({"data__record": GONE}, "data: task: record needs record.labels"),
        ({"data__record__labels": []}, "data: task: record needs record.labels"),
        ({"data__prompt_template": "=>"}, "data: prompt_template must contain {text}"),
        ({"student__layers": GONE}, "student: init: prune needs layers"),
        ({"student__layers__listed": [0, 1]}, "student.layers: give either keep (how many layers) or listed (which ones), not both"),
        ({"student__layers": {}}, "student.layers: give either keep"),
        ({"score__temperatures": [0.0]}, "score.temperatures.0: Input should be greater than 0"),
        ({"finetune__arms__kd__temperature": 2.0}, "finetune.arms.kd.temperature=2 is not in score.temperatures=[1.0]"),
        ({"finetune__arms__gold__prompt_weight": 0.5}, "finetune.arms.gold: prompt_weight=0.5 needs the teacher's rows, but rows is gold"),
        ({"finetune__arms__kd__prompt_weight": 1.5}, "finetune.arms.kd.prompt_weight"),
        ({"finetune__arms__gold__alpha": 0.5}, "finetune.arms.gold: alpha=0.5 needs the teacher's rows, but rows is gold"),
        ({"score__top_k": 0}, "finetune.arms.kd.alpha=0.5 needs soft targets; set score.top_k or generate.top_k"),
        ({"promote__arm": "best"}, "promote.arm='best' is not an arm; the arms are gold, kd"),
        ({"finetune__common__tokens": 4}, "finetune.common.tokens=4 is less than one token for each of batch_size="),
        ({"tune_teacher__method": "lora", "teacher__backend": "openai"}, "tune_teacher.method must be off for teacher.backend: openai"),
        (
            {"teacher__prompt": {"system": "Be brief."}, "finetune__method": "online"},
            "finetune.arms.kd: method online runs the teacher on the student's tokens, but with teacher.prompt the teacher reads other ones; "
            "use method logit or sequence, or remove teacher.prompt",
        ),
        (
            {"teacher__prompt": {"examples": 4}, "finetune__arms__kd": {**KD, "method": "on_policy"}},
            "finetune.arms.kd: method on_policy runs the teacher on the student's tokens, but with teacher.prompt",
        ),
        (
            {"teacher__prompt": {"examples": 4}, "finetune__common__supervise": "all"},
            "finetune.arms.kd: finetune.common.supervise is all, but with teacher.prompt the teacher gives no probabilities of the student's prompt "
            "tokens; set supervise to completion, or remove teacher.prompt",
        ),
        ({"teacher__prompt": {"examples": -1}}, "teacher.prompt.examples: Input should be greater than or equal to 0 (given: -1)"),
        ({"teacher__prompt": {"few": 1}}, "teacher.prompt.few is not a known key"),
        ({"finetune__arms__prompted": {"rows": "gold"}}, "finetune.arms.prompted: benchmark.few_shot has an arm of this name"),
        ({"governance__licenses": [{**REVIEW, "terms_sha256": "abc"}]}, "governance.licenses.0.terms_sha256"),
        ({"governance__licenses": [{**REVIEW, "expires": "soon"}]}, "governance.licenses.0.expires"),
    ],
)
def test_each_problem_names_its_key(changes: dict[str, Any], sentence: str) -> None:
    message = refused(**changes)
    assert sentence in message
    assert "1 problem:" in message


@pytest.mark.parametrize("splits", [{"test": 0.5}, {"train": 0.8, "dev": 0.5}, {"train": 0.0}, {"train": -0.1}])
def test_impossible_splits_are_refused(splits: dict[str, float]) -> None:
    assert "data.source" in refused(data__source=[{"path": "a.jsonl", "splits": splits}])


def test_problem_in_a_source_names_its_key() -> None:
    message = refused(data__source=[{"path": "a.jsonl", "splits": {"test": 0.5}}])
    assert "1 problem: data.source.0: unknown split test" in message


def test_problems_are_reported_all_at_once() -> None:
    message = refused(intake__max_chars=0, generate__temperature=-1.0, promote__margn=0.1, teacher__model=GONE)
    assert message.startswith("params: 4 problems: ")
    for key in ("intake.max_chars", "generate.temperature", "promote.margn is not a known key", "teacher.model is missing"):
        assert key in message
    message = refused(promote__arm="best", finetune__common__tokens=4)
    assert "promote.arm='best'" in message and "finetune.common.tokens" in message


def test_a_teacher_prompt_fits_every_method_that_uses_stored_probabilities_or_text() -> None:
    params = parse_params(changed(teacher__prompt={"system": "Be brief.", "examples": 4}))
    assert params.teacher.prompt.shows_anything and params.finetune.common.supervise == "completion"
    assert not parse_params(changed()).teacher.prompt.shows_anything
    # Text has no probabilities of prompt tokens anyway.
    parse_params(
        changed(teacher__prompt={"examples": 4}, finetune__common__supervise="all", finetune__arms__kd={"rows": "gold_and_teacher"})
    )


def test_temperature_with_its_normaliser_or_without_soft_targets_is_fine() -> None:
    assert parse_params(changed(finetune__arms__kd__temperature=2.0, score__temperatures=[1.0, 2.0])).finetune.arms["kd"].temperature == 2.0
    assert parse_params(changed(finetune__arms__gold__temperature=3.0)).finetune.arms["gold"].temperature == 3.0


def test_temperature_is_refused_while_the_score_stage_is_off() -> None:
    changes = {"score__top_k": 0, "generate__top_k": 20, "score__temperatures": [1.0, 2.0], "finetune__arms__kd__temperature": 2.0}
    assert "finetune.arms.kd.temperature" in refused(**changes)


@pytest.mark.parametrize("value", [True, "20"])
def test_wrong_types_that_look_like_numbers_are_refused(value: object) -> None:
    assert "intake.max_chars" in refused(intake__max_chars=value)


def test_student_without_layers_is_refused() -> None:
    assert "student.layers" in refused(student__layers={"listed": []})


@pytest.mark.parametrize(
    "record",
    [{"labels": ["a+b"]}, {"labels": ["a; b"]}, {"labels": ["a"], "flags": ["x"], "entities": ["x"]}, {"labels": ["a"], "flags": ["x=y"]}],
)
def test_names_that_the_grammar_cannot_spell_are_refused(record: dict[str, Any]) -> None:
    assert "data.record" in refused(data__record=record)


def load(folder: Path, content: str | bytes) -> Params:
    file = folder / "params.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_params(file)


def test_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    assert load(tmp_path, yaml.safe_dump(MINIMAL, allow_unicode=True)) == parse_params(MINIMAL)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("data: {}\nintake:\n  pii: true\n  pii: false\n", "params.yaml line 4: key 'pii' occurs twice; keep one"),
        ("data: {}\ndata: {}\n", "line 2: key 'data' occurs twice"),
        ("data: café".encode("latin-1"), "is not UTF-8 text (byte 9); save it as UTF-8"),
        ("data: [1", "is not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        ("", "must contain a mapping of sections (data, intake, …), not NoneType"),
        ("- data", "must contain a mapping of sections (data, intake, …), not list"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, content)
    assert sentence in str(caught.value)


def test_no_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not found: run this from a project directory"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("content", ["? [1]\n: 2\n", "a: 2026-13-45", None], ids=["list as key", "month 13", "a directory"])
def test_odd_files_are_config_errors_too(tmp_path: Path, content: str | None) -> None:
    try:
        load_params(tmp_path) if content is None else load(tmp_path, content)
    except ConfigError:
        return


def test_other_temperatures_are_coded_more_finely() -> None:
    def bits(**score: object) -> int:
        return parse_params(changed(score=score)).score.coded_bits

    assert [bits(), bits(temperatures=[1.0, 2.0]), bits(temperatures=[2.0], bits=9)] == [8, 12, 9]


def test_pairs_are_refused_where_completions_decide_nothing() -> None:
    """Without listed values no pair could differ, and a gate that compares nothing would pass."""

    def with_schema(leaf: dict[str, Any]) -> dict[str, Any]:
        schema = {"type": "object", "properties": {"answer": leaf}}
        return changed(data__task="json", data__record=GONE, data__schema=schema, benchmark={"fairness": "pairs.jsonl"})

    assert parse_params(with_schema({"enum": ["yes", "no"]})).data.grammar is not None
    with pytest.raises(ConfigError, match="data.schema lists no values .* so no pair could ever differ"):
        parse_params(with_schema({"type": "string"}))
