"""The study of ``redistill tune``: an Optuna study over a few settings of the promoted arm.

A study is a file in the project's state; trials are appended to it. So a search that was killed continues where it stopped, and its
unfinished trial is run again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from redistill.distillation.arm_params import FinetuneParams
from redistill.models.params import StudentParams
from redistill.promotion.params import PromoteParams
from redistill.tuning.params import SpaceParams, TuneParams

if TYPE_CHECKING:
    import optuna

WARM_UP = 4
"""Trials that run whole before any is pruned."""
METRICS = {"f1": "F1", "chrf": "chrF"}
"""What trials are chosen by: records by F1, free text by chrF."""
_AGAIN = "tried again"


@dataclass(frozen=True, slots=True)
class Setting:
    """One point of the space."""

    alpha: float
    learning_rate: float
    layers: int | None
    temperature: float


def open_study(file: Path, name: str, seed: int) -> optuna.Study:
    """The study of that name, made on first use. ``seed`` and the number of trials so far decide what is tried next, resumed or not."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(file)))
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=WARM_UP)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=WARM_UP, n_warmup_steps=0)
    return study


def take_up(study: optuna.Study) -> int:
    """Queue again, once, what a killed search left unfinished; returns how many trials that were.

    A setting that was killed twice is not run again: a setting that does not fit into memory would end every search.
    """
    from optuna.trial import TrialState

    left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in left:
        study.tell(trial.number, state=TrialState.FAIL)
        # Killed before it drew, a queued trial has its setting only in what it was queued with.
        setting = trial.params or trial.system_attrs.get("fixed_params", {})
        if setting and not trial.user_attrs.get(_AGAIN):
            study.enqueue_trial(setting, user_attrs={_AGAIN: True})
    return len(left)


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that count: whole ones and pruned ones."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


class Searched(Protocol):
    """The sections of params.yaml whose values a search starts from and changes."""

    @property
    def student(self) -> StudentParams: ...
    @property
    def finetune(self) -> FinetuneParams: ...
    @property
    def promote(self) -> PromoteParams: ...
    @property
    def tune(self) -> TuneParams: ...


def current(params: Searched) -> dict[str, Any]:
    """The current settings as the first trial, because the gain of a search is measured against them."""
    arm, space = params.finetune.arms[params.promote.arm], params.tune.space
    depth = params.student.layers
    layers = None if depth is None else depth.keep or len(depth.listed or ())
    settings: dict[str, Any] = {}
    if space.alpha is not None and space.alpha[0] <= arm.alpha <= space.alpha[1]:
        settings["alpha"] = arm.alpha
    if space.learning_rate is not None and space.learning_rate[0] <= params.finetune.common.learning_rate <= space.learning_rate[1]:
        settings["learning_rate"] = params.finetune.common.learning_rate
    if layers in space.layers:
        settings["layers"] = layers
    if arm.temperature in space.temperature:
        settings["temperature"] = arm.temperature
    return settings


def drawn(trial: optuna.Trial, space: SpaceParams, params: Searched) -> Setting:
    """A point of the space; settings that it does not contain are those of params."""
    arm = params.finetune.arms[params.promote.arm]
    return Setting(
        alpha=arm.alpha if space.alpha is None else trial.suggest_float("alpha", *space.alpha),
        learning_rate=params.finetune.common.learning_rate
        if space.learning_rate is None
        else trial.suggest_float("learning_rate", *space.learning_rate, log=True),
        layers=int(trial.suggest_categorical("layers", list(space.layers))) if space.layers else None,
        temperature=float(trial.suggest_categorical("temperature", list(space.temperature))) if space.temperature else arm.temperature,
    )


def patch(best: dict[str, Any], params: Searched) -> dict[str, Any]:
    """The patch of params.yaml for a trial's settings; empty if params.yaml has them already."""
    arm, now = params.promote.arm, current(params)
    best = {key: value for key, value in best.items() if now.get(key) != value}
    own = {key: float(f"{best[key]:.3g}") for key in ("alpha", "temperature") if key in best}
    finetune: dict[str, Any] = {}
    if "learning_rate" in best:
        finetune["common"] = {"learning_rate": float(f"{best['learning_rate']:.3g}")}
    if own:
        finetune["arms"] = {arm: own}
    tree: dict[str, Any] = {"finetune": finetune} if finetune else {}
    if "layers" in best:
        depth = params.student.layers
        if params.student.init == "config":
            tree["student"] = {"config_overrides": {"num_hidden_layers": int(best["layers"])}}
        elif depth is None or depth.listed is None or len(depth.listed) != best["layers"]:
            tree["student"] = {"layers": {"keep": int(best["layers"])}}
    return tree


def plots(study: optuna.Study, folder: Path, metric: str = "f1") -> list[Path]:
    """Importance of each setting, and the metric over alpha and temperature (or over the two settings that matter most), as PNG files; only what enough trials show."""
    import matplotlib

    matplotlib.use("Agg")
    import optuna
    from matplotlib import pyplot

    whole = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(whole) < 2 or len({t.value for t in whole}) < 2:
        return []
    importance = optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(6, 0.6 * len(importance) + 1.2), layout="constrained")
    axes.barh(list(importance)[::-1], list(importance.values())[::-1], color="#3b6ea5")
    axes.set_xlabel("importance: share of the difference between good and bad trials (PED-ANOVA)")
    made = [folder / "importance.png"]
    figure.savefig(made[0], dpi=150)
    pyplot.close(figure)
    names = ["alpha", "temperature"] if {"alpha", "temperature"} <= set(importance) else list(importance)[:2]
    if len(names) == 2:
        figure, axes = pyplot.subplots(figsize=(6, 4.5), layout="constrained")
        x, y = ([t.params[n] for t in whole] for n in names)
        dots = axes.scatter(x, y, c=[float(t.value or 0.0) for t in whole], cmap="viridis", s=70, edgecolors="black", linewidths=0.5)
        best = study.best_trial
        axes.scatter(
            [best.params[names[0]]], [best.params[names[1]]], s=220, facecolors="none", edgecolors="#c0392b", linewidths=2, label="best"
        )
        axes.set(xlabel=names[0], ylabel=names[1])
        for name, scale in zip(names, (axes.set_xscale, axes.set_yscale), strict=True):
            scale("log" if name == "learning_rate" else "linear")
        axes.legend(loc="upper right")
        figure.colorbar(dots, label=f"{METRICS[metric]} on dev")
        made.append(folder / f"{names[0]}-{names[1]}.png")
        figure.savefig(made[1], dpi=150)
        pyplot.close(figure)
    return made
