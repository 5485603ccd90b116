"""A model so small that a test can train it: real architecture, real tokenizer, random weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redistill.distillation.methods.all_methods import all_methods

if TYPE_CHECKING:
    import torch

    from redistill.distillation.methods.base import Method
    from redistill.distillation.training.examples import Example
    from redistill.distillation.types import SoftTargets, TrainingRow

BANK = Path(__file__).parents[1] / "data" / "bank_triage" / "labelled.jsonl"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def sentences(count: int = 60) -> list[str]:
    """Messages and labels of the hand-written bank example."""
    rows = [json.loads(line) for line in BANK.read_text(encoding="utf-8").splitlines()[:count]]
    return [f"{row['text']}\n=> {row['label']}" for row in rows]


def make_tiny_model(path: str | os.PathLike[str], *, layers: int = 4, seed: int = 0, vocabulary: int = 400, hidden: int = 32) -> Path:
    """Write a random-weight Llama with a byte-level BPE tokenizer to ``path``, in hub layout with safetensors.

    Weights are drawn wider than usual, so that predictions differ from token to token. The tokenizer does not depend on ``layers`` or ``seed``, so two tiny models with one ``vocabulary`` may share soft targets.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    target = Path(path)
    tokenizer = _tokenizer(vocabulary)
    tokenizer.save_pretrained(target)
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            initializer_range=0.2,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    torch.random.set_rng_state(state)
    model.save_pretrained(target)
    return target


def _tokenizer(vocabulary: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = ["<unk>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(sentences(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        unk_token="<unk>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
    )


def training_rows(tokenizer: Any, count: int = 8) -> list[TrainingRow]:
    """Rows of the bank example as a student would see them: message, arrow, line."""
    from redistill.distillation.types import Span, TrainingRow
    from redistill.models.tokenizers import encode, tokenizer_digest

    rows = []
    for number, sentence in enumerate(sentences(count)):
        prompt, _, line = sentence.partition("=>")
        prompt_ids, completion = encode(f"{prompt}=>", tokenizer), encode(line, tokenizer)
        ids = (*prompt_ids, *completion)
        spans = (Span("prompt", 0, len(prompt_ids)), Span("completion", len(prompt_ids), len(ids)))
        rows.append(TrainingRow(f"row-{number}", 0, ids, spans, tokenizer_digest(tokenizer), line, "teacher"))
    return rows


def sequence(row: TrainingRow) -> torch.Tensor:
    """Prompt and completion ids of a row."""
    import torch

    return torch.tensor(row.token_ids)


def soft_of(model: Any, row: TrainingRow, first: int = 1, k: int = 6) -> SoftTargets:
    """Soft targets as ``model`` would give them, for every token from ``first``."""
    import torch

    from redistill.distillation.soft_targets.from_teacher import from_logits

    ids = sequence(row)
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
    return from_logits(logits[first - 1 : -1], ids.numpy(), first, k, (1.0, 2.0), row.key)


def examples_of(model: Any, tokenizer: Any, count: int = 8, alpha: float = 0.5, supervise: str = "completion") -> list[Example]:
    """Rows as training sees them; every other one has soft targets, as gold rows have none."""
    from redistill.distillation.training.examples import Supervision, to_example

    rows = training_rows(tokenizer, count)
    return [to_example(r, soft_of(model, r) if i % 2 else None, Supervision(alpha, supervise)) for i, r in enumerate(rows)]


def method_of(name: str, tokenizer: Any, teacher: Any = None, temperature: float = 1.0, seed: int = 7, **settings: Any) -> Method:
    """A method by its name, with the teacher in memory where it needs one."""
    from redistill.distillation.methods.base import MethodInputs

    return all_methods()[name](**settings).build(
        MethodInputs(temperature, tokenizer, len(tokenizer), seed, teacher if needs_weights(name) else None)
    )


def needs_weights(name: str) -> bool:
    return "teacher_weights" in all_methods()[name].needs


def weights(model: Any) -> dict[str, torch.Tensor]:
    """A copy of every parameter."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}
