"""From a prompt to the exact text that teacher and student see.

One template serves teacher, training, benchmark and serving, so that a score is a score of what will be served.
"""

from __future__ import annotations

from typing import Any

from redistill.data.params import DataParams
from redistill.data.types import Prompt
from redistill.io.digests import canonical_digest


def render(prompt: Prompt, data: DataParams, tokenizer: Any = None) -> str:
    """The prompt as one string. ``chat`` uses the tokenizer's own chat template, ``plain`` only ours."""
    text = data.prompt_template.replace("{text}", prompt.text)
    if data.format == "plain":
        return text
    messages = [{"role": m.role, "content": m.content} for m in prompt.messages[:-1]]
    messages.append({"role": prompt.messages[-1].role, "content": text})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def completion_text(label: str, data: DataParams) -> str:
    """The completion as it follows the prompt: after a plain template it starts with the space that a tokenizer expects."""
    return label if data.format == "chat" else f" {label}"


def template_digest(data: DataParams, tokenizer: Any) -> str:
    chat = getattr(tokenizer, "chat_template", None) if data.format == "chat" else None
    return canonical_digest([data.format, data.prompt_template, chat])
