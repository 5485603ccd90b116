"""What makes a teacher's completions change: weights, tokenizer and template, as digests."""

from __future__ import annotations

import os
from pathlib import Path

from redistill.io.digests import canonical_digest, file_digest
from redistill.io.json import read_json
from redistill.models.tokenizers import tokenizer_files_digest
from redistill.teacher.types import TeacherFingerprint


def fingerprint(path: str | os.PathLike[str], name: str) -> TeacherFingerprint:
    """Digest of weights, config, tokenizer and chat template: everything that changes a local model's completions."""
    root = Path(path)
    weights = canonical_digest({p.name: file_digest(p) for p in sorted(root.glob("*.safetensors"))})
    parts = {
        "weights": weights,
        "config": file_digest(root / "config.json"),
        "tokenizer": tokenizer_files_digest(root),
        "chat_template": _chat_template_digest(root),
    }
    return TeacherFingerprint(name, canonical_digest(parts), parts)


def _chat_template_digest(root: Path) -> str:
    """A template is in a file of its own or in the tokenizer's configuration."""
    file = root / "chat_template.jinja"
    if file.is_file():
        return file_digest(file)
    config = root / "tokenizer_config.json"
    return canonical_digest(read_json(config).get("chat_template") if config.is_file() else None)
