"""What makes a teacher's completions change: weights, tokenizer, template, end tokens and its own prompt, as digests."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from redistill.io.digests import canonical_digest, file_digest
from redistill.io.json import read_json
from redistill.models.tokenizers import tokenizer_files_digest
from redistill.teacher.prompt_file import read_prompt
from redistill.teacher.types import TeacherFingerprint

GENERATION = "generation_config"
"""The part that earlier locks do not have."""
PROMPT = "prompt"
"""The part of a teacher that is shown more than its student."""


def fingerprint(path: str | os.PathLike[str], name: str) -> TeacherFingerprint:
    """Digest of weights, config, generation config, tokenizer, chat template and prompt: everything that changes a local model's completions."""
    root = Path(path)
    weights = canonical_digest({p.name: file_digest(p) for p in sorted(root.glob("*.safetensors"))})
    parts = {
        "weights": weights,
        "config": file_digest(root / "config.json"),
        "tokenizer": tokenizer_files_digest(root),
        "chat_template": _chat_template_digest(root),
        GENERATION: _generation_digest(root),
        **prompt_part(root),
    }
    return TeacherFingerprint(name, canonical_digest(parts), parts)


def prompt_part(root: Path) -> dict[str, str]:
    """The digest of what only the teacher in this folder is shown; no part where that is nothing."""
    prompt = read_prompt(root)
    return {PROMPT: prompt.digest} if prompt else {}


def as_locked(now: TeacherFingerprint, locked: TeacherFingerprint | None) -> TeacherFingerprint:
    """The same teacher under the digest that a lock has for it; ``now`` itself if it is another one.

    Earlier locks have no generation config. There, the other parts are compared: a new digest for the same teacher would ask it everything again, since
    completions are stored under its digest.
    """
    if locked is None or now.parts != {GENERATION: now.parts.get(GENERATION), **locked.parts}:
        return now
    return replace(now, digest=locked.digest)


def _generation_digest(root: Path) -> str:
    """Of the file with the end tokens, without the version of the library that wrote it."""
    file = root / "generation_config.json"
    tree = read_json(file) if file.is_file() else None
    return canonical_digest({k: v for k, v in tree.items() if k != "transformers_version"} if isinstance(tree, dict) else tree)


def _chat_template_digest(root: Path) -> str:
    """A template is in a file of its own or in the tokenizer's configuration."""
    file = root / "chat_template.jinja"
    if file.is_file():
        return file_digest(file)
    config = root / "tokenizer_config.json"
    return canonical_digest(read_json(config).get("chat_template") if config.is_file() else None)
