"""From a prompt to the exact tokens that teacher and student see.

One template serves teacher, training, benchmark and serving, so that a score is a score of what will be served.
"""

from __future__ import annotations

import hashlib
from typing import Any

from redistill.config import DataParams
from redistill.records import Prompt, canonical_digest


def render(prompt: Prompt, data: DataParams, tokenizer: Any = None) -> str:
    """The prompt as one string. ``chat`` uses the tokenizer's own chat template, ``plain`` only ours."""
    text = data.prompt_template.replace("{text}", prompt.text)
    if data.format == "plain":
        return text
    messages = [{"role": m.role, "content": m.content} for m in prompt.messages[:-1]]
    messages.append({"role": prompt.messages[-1].role, "content": text})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def completion_text(label: str, data: DataParams) -> str:
    """How a completion is spelled after the prompt: a plain template needs the space that a tokenizer expects."""
    return label if data.format == "chat" else f" {label}"


def encode(text: str, tokenizer: Any) -> list[int]:
    """Token ids without anything added: the template is the whole truth."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def template_digest(data: DataParams, tokenizer: Any) -> str:
    chat = getattr(tokenizer, "chat_template", None) if data.format == "chat" else None
    return canonical_digest([data.format, data.prompt_template, chat])


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of the id → token map; two tokenizers with the same digest may share soft targets."""
    return vocabulary_digest(tokenizer.get_vocab())


def vocabulary_size(tokenizer: Any) -> int:
    """One more than the largest id: how many rows of a head have a token, however far it was padded."""
    largest: int = max(tokenizer.get_vocab().values())
    return 1 + largest


def vocabulary_digest(ids: dict[str, int]) -> str:
    digest = hashlib.sha256()
    for index, token in sorted((i, t) for t, i in ids.items()):
        digest.update(f"{index}\t{token}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
