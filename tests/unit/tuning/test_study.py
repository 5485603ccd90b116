"""The search: what it draws, takes up again, gives up, and tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

from redistill.params import parse_params
from redistill.tuning import study as tuning
from tests.unit.test_params import KD, changed

SPACE = {"alpha": [0.1, 1.0], "learning_rate": [1e-4, 1e-2], "layers": [4, 8]}


def params_of(**changes):
    return parse_params(changed(tune={"trials": 5, "space": SPACE, "seed": 3}, promote={"arm": "kd"}, **changes))


def study_of(folder: Path, seed: int = 3):
    return tuning.open_study(folder / "study.journal", "study", seed)


def test_settings_lie_in_the_space_and_what_it_leaves_open_is_as_params_say(tmp_path: Path) -> None:
    params, study = params_of(), study_of(tmp_path)
    for _ in range(6):
        trial = study.ask()
        setting = tuning.drawn(trial, params.tune.space, params)
        assert (
            0.1 <= setting.alpha <= 1.0
            and 1e-4 <= setting.learning_rate <= 1e-2
            and setting.layers in (4, 8)
            and setting.temperature == 1.0
        )
        study.tell(trial, setting.alpha)
    narrow = parse_params(changed(tune={"space": {"alpha": None, "learning_rate": None}}, promote={"arm": "kd"}))
    setting = tuning.drawn(study_of(tmp_path / "other").ask(), narrow.tune.space, narrow)
    assert (setting.alpha, setting.learning_rate, setting.layers) == (0.5, 7e-4, None)


def test_a_resumed_search_draws_what_one_without_a_stop_draws(tmp_path: Path) -> None:
    """The journal is opened anew for every trial, as each is a process of its own."""

    def drawn(folder: Path, stops: bool) -> list[dict[str, object]]:
        params = params_of()
        for number in range(5):
            study = study_of(folder)
            trial = study.ask()
            setting = tuning.drawn(trial, params.tune.space, params)
            if stops and number == 2:
                # Killed here: the trial stands as running in the file, and is queued again.
                study = study_of(folder)
                assert tuning.take_up(study) == 1 and tuning.take_up(study) == 0
                trial = study.ask()
                assert tuning.drawn(trial, params.tune.space, params) == setting
            study.tell(trial, setting.alpha)
        assert len(tuning.finished(study_of(folder))) == 5
        return [t.params for t in tuning.finished(study_of(folder))]

    whole, stopped = drawn(tmp_path / "whole", False), drawn(tmp_path / "stopped", True)
    assert whole[:3] == stopped[:3] and len({str(p) for p in whole}) == 5, "no seed draws the same point twice"


def test_bad_trials_are_given_up_early(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    for value in (0.5, 0.6, 0.7, 0.8):
        trial = study.ask()
        trial.report(value, 10)
        assert not trial.should_prune()
        study.tell(trial, value)
    worse, better = study_of(tmp_path).ask(), study_of(tmp_path).ask()
    worse.report(0.2, 10)
    better.report(0.9, 10)
    assert worse.should_prune() and not better.should_prune()


def test_the_first_trial_is_what_params_say() -> None:
    assert tuning.current(params_of()) == {"alpha": 0.5, "learning_rate": 7e-4, "layers": 8}
    assert tuning.current(params_of(finetune__common={"tokens": 10_000, "learning_rate": 0.5})) == {"alpha": 0.5, "layers": 8}


def test_the_patch_changes_only_what_differs() -> None:
    params = params_of()
    assert tuning.patch({"alpha": 0.5, "learning_rate": 7e-4, "layers": 8}, params) == {}
    found = tuning.patch({"alpha": 0.81234, "learning_rate": 0.0012345, "layers": 4}, params)
    assert found == {
        "finetune": {"common": {"learning_rate": 0.00123}, "arms": {"kd": {"alpha": 0.812}}},
        "student": {"layers": {"keep": 4}},
    }
    merged = changed(
        finetune__common={"tokens": 10_000, **found["finetune"]["common"]}, finetune__arms__kd={**KD, **found["finetune"]["arms"]["kd"]}
    )
    merged["student"].update(found["student"])
    again = parse_params(merged)
    assert again.finetune.arms["kd"].alpha == 0.812 and again.student.layers is not None and again.student.layers.keep == 4


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5, 0.5], [0.1, 0.4, 0.9, 0.5, 0.3, 0.8]])
def test_plots_show_what_there_is(tmp_path: Path, values: list[float]) -> None:
    params, study = params_of(), study_of(tmp_path)
    for value in values:
        trial = study.ask()
        tuning.drawn(trial, params.tune.space, params)
        study.tell(trial, value)
    study.tell(study.ask(), state=TrialState.FAIL)
    made = tuning.plots(study, tmp_path / "plots")
    assert len(made) == (2 if len(set(values)) > 1 else 0)
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in made)


def test_alpha_against_temperature_where_both_are_searched(tmp_path: Path) -> None:
    params = parse_params(
        changed(tune={"space": {"alpha": [0.1, 1.0], "temperature": [1.0, 2.0]}}, score={"top_k": 8, "temperatures": [1.0, 2.0]})
    )
    study = study_of(tmp_path)
    for value in (0.1, 0.4, 0.9, 0.5):
        trial = study.ask()
        assert tuning.drawn(trial, params.tune.space, params).temperature in (1.0, 2.0)
        study.tell(trial, value)
    assert [p.name for p in tuning.plots(study, tmp_path / "plots")] == ["importance.png", "alpha-temperature.png"]


def test_what_was_killed_is_tried_once_more_and_no_more(tmp_path: Path) -> None:
    """Also a trial that was killed before it drew, and a setting that kills whoever tries it does not end every search."""
    study = study_of(tmp_path)
    study.enqueue_trial({"alpha": 0.5})
    assert study.ask().number == 0
    assert tuning.take_up(study) == 1
    again = study.ask()
    assert again.suggest_float("alpha", 0.1, 1.0) == 0.5, "its setting was only in the queue"
    assert tuning.take_up(study) == 1
    assert not study.get_trials(states=(TrialState.WAITING,)), "killed twice, given up"
