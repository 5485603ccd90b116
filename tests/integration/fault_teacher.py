"""An OpenAI-compatible teacher that fails on command: a real server in a process of its own.

``python -m tests.integration.fault_teacher --port 0 --faults '["500", {"status": 429, "retry_after": "1"}]' --record FILE``
prints its port as the first line. Without arguments it reads a JSON list of them from each line of its input, and starts a server for
each in this one process: a port a line. Faults are used up in order, one a request; then it answers. The answer is a simple rule on
the last message (or ``--answer``), so equal requests get equal answers.

A fault is ``ok`` (none), a status as text, or an object with ``status``, ``retry_after`` (text, or ``date+N`` for N seconds from
now) and ``echo_key`` (the error quotes the key it got); ``half`` (the body breaks off), ``html`` (status 200, a web page),
``no_choices``, ``never`` (silent for at most 30 s), ``nan`` (log-probabilities), or an object with ``choice`` (keys that replace those of the
choice), ``usage``, ``raw`` (the whole body as text) or ``bomb`` (a gzip body of so many MB). ``--refuse TEXT`` refuses every prompt that holds the text,
and ``--break TEXT`` fails on it.

Each line of the record is one event: ``asked`` (path, body, key, in_flight, at), then ``answered`` (usage) or ``gone`` (the
caller hung up on a silent request).
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import select
import sys
import threading
import time
import zlib
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SILENCE_S = 30.0
WORDS = {
    "address": ("new address", "moving", "e-mail address"),
    "card_lost": ("lost my card", "mislaid", "can't find my card", "cannot find"),
    "card_stolen": ("stolen", "robbed", "pickpocket"),
    "fraud": ("wasn't me", "did not make", "scam"),
    "limit": ("limit", "overdraft"),
    "login": ("password", "locked out", "log in"),
    "pin": ("pin",),
    "refund": ("refund",),
}


def bank_record(text: str) -> str:
    """A valid line for the bank example: right often enough to learn from, and the same for the same text."""
    said = text.strip().removesuffix("=>").strip().lower()
    labels = [label for label, signs in WORDS.items() if any(re.search(rf"\b{re.escape(sign)}\b", said) for sign in signs)]
    parts = ["+".join(labels) or "other"]
    parts += ["urgent"] * bool(re.search(r"\b(asap|urgent|immediately|right now|please hurry)\b", said))
    parts += [f"amount={m.group()}" for m in [re.search(r"[£€$]\d[\d,]*(\.\d\d)?", text)] if m]
    parts += [f"last4={m.group(1)}" for m in [re.search(r"ending (?:in )?(\d{4})\b", text)] if m]
    return "; ".join(parts)


def tokens_of(text: str) -> list[str]:
    return re.findall(r"\s*\w+|\s*[^\w\s]", text)


class FaultTeacher(ThreadingHTTPServer):
    """The server and what its requests share: the faults that are left, and how many requests are in flight."""

    daemon_threads = True

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(("127.0.0.1", options.port), Handler)
        self.options = options
        self.faults: list[Any] = json.loads(options.faults)
        self.in_flight = 0
        self.met = threading.Condition()

    def note(self, event: str, **what: Any) -> None:
        if self.options.record:
            with self.met, Path(self.options.record).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, "at": time.time(), **what}) + "\n")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is what some tests are about; no traceback for it."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes. By default the second one waits for the client's word on the first, which comes 40 ms later.
    disable_nagle_algorithm = True
    server: FaultTeacher

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send(200, {"object": "list", "data": [{"id": "any", "object": "model", "owned_by": self.server.options.owned_by}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.met:
            server.in_flight += 1
            server.met.notify_all()
            fault = server.faults.pop(0) if server.faults else "ok"
            in_flight = server.in_flight
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        server.note("asked", path=self.path, body=body, key=key, in_flight=in_flight)
        left = False

        def leave() -> None:
            # Before the last byte: a caller that reads it and asks again must not be counted twice.
            nonlocal left
            with server.met:
                server.in_flight -= not left
                left = True

        try:
            if server.options.gather:
                with server.met:
                    server.met.wait_for(lambda: server.in_flight >= server.options.gather, server.options.gather_s)
            self.fail_or_answer(fault, body, key, leave)
        finally:
            leave()

    def fail_or_answer(self, fault: Any, body: dict[str, Any], key: str, leave: Any) -> None:
        options = self.server.options
        fault = {"status": int(fault)} if isinstance(fault, str) and fault.isdigit() else fault
        if fault == "never":
            # Readable means that the caller hung up, for it has nothing more to say.
            if select.select([self.connection], [], [], SILENCE_S)[0]:
                self.server.note("gone")
            self.close_connection = True
            return
        if fault == "html":
            leave()
            self.send(200, "<html><body>Please sign in</body></html>", kind="text/html")
            return
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        for text, status in ((options.refuse, 400), (options.fail_on, 500)):
            if text and text in prompt:
                fault = {"status": status}
        if isinstance(fault, dict) and ("raw" in fault or "bomb" in fault):
            leave()
            zipped = gzip.compress(b"x" * (fault["bomb"] << 20)) if "bomb" in fault else None
            headers = {"Content-Encoding": "gzip"} if zipped else {}
            self.send(200, zipped or fault["raw"], kind=fault.get("kind", "application/json"), headers=headers)
            return
        if isinstance(fault, dict) and "status" in fault:
            headers = {}
            if after := fault.get("retry_after"):
                headers["Retry-After"] = formatdate(time.time() + float(after[5:]), usegmt=True) if after.startswith("date+") else after
            said = f"fault {fault['status']}" + (f" for key {key}" if fault.get("echo_key") else "")
            leave()
            self.send(fault["status"], {"error": {"message": said}}, headers=headers)
            return
        asked_k = int(body.get("top_logprobs") or 0) if "messages" in body else int(body.get("logprobs") or 0)
        if options.max_logprobs is not None and asked_k > options.max_logprobs:
            leave()
            self.send(400, {"error": {"message": f"logprobs of {asked_k} is greater than max allowed: {options.max_logprobs}"}})
            return
        answer = self.answer(body, 0 if options.no_logprobs else asked_k, fault == "nan")
        if fault == "no_choices":
            answer["choices"] = []
        if isinstance(fault, dict):
            answer["choices"][0] |= fault.get("choice", {})
            answer |= {"usage": fault["usage"]} if "usage" in fault else {}
        self.server.note("answered", usage=answer.get("usage", {}))
        leave()
        self.send(200, answer, cut=fault == "half")

    def answer(self, body: dict[str, Any], k: int, nan: bool) -> dict[str, Any]:
        options = self.server.options
        chat = "messages" in body
        asked = body["messages"][-1]["content"] if chat else body["prompt"]
        said = options.answer if options.answer is not None else bank_record(asked)
        tokens = tokens_of(said if chat else f" {said}")
        cut = tokens[: body.get("max_tokens") or body["max_completion_tokens"]]
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if len(cut) == len(tokens) else "length"}
        if chat:
            choice["message"] = {"role": "assistant", "content": "".join(cut)}
            if options.reasoning:
                choice["message"]["reasoning_content"] = options.reasoning
        else:
            choice["text"] = "".join(cut)
        if k:
            choice["logprobs"] = logprobs(cut, k, chat, bool(body.get("return_tokens_as_token_ids")), nan)
        answer = {"id": "x", "object": "chat.completion" if chat else "text_completion", "model": body["model"], "choices": [choice]}
        answer["system_fingerprint"] = options.fingerprint
        prompts = [m["content"] for m in body["messages"]] if chat else [asked]
        prompt_tokens = sum(len(tokens_of(p)) for p in prompts)
        if not options.no_usage:
            answer["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": len(cut), "total_tokens": prompt_tokens + len(cut)}
        return answer

    def send(
        self, status: int, body: Any, *, kind: str = "application/json", headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut


def logprobs(tokens: list[str], k: int, chat: bool, as_ids: bool, nan: bool) -> dict[str, Any]:
    """The said token has probability 1/2, the others that are listed 1/4, 1/8, …"""

    def name(token: str) -> str:
        return f"token_id:{zlib.crc32(token.encode()) % 50_000}" if as_ids else token

    rows = [{name(t if i == 0 else f"{t}~{i}"): -(i + 1) * math.log(2.0) for i in range(k)} for t in tokens]
    if nan and rows:
        rows[0][name(tokens[0])] = math.nan
    own = [next(iter(row.values())) for row in rows]
    names = [name(t) for t in tokens]
    if not chat:
        return {"tokens": names, "token_logprobs": own, "top_logprobs": rows, "text_offset": [0] * len(names)}
    content = [
        {"token": n, "logprob": p, "bytes": None, "top_logprobs": [{"token": t, "logprob": v, "bytes": None} for t, v in row.items()]}
        for n, p, row in zip(names, own, rows, strict=True)
    ]
    return {"content": content}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--port", type=int, default=0)
    found.add_argument("--faults", default="[]", help="JSON list, used up in order")
    found.add_argument("--record", help="JSONL file of events, appended to")
    found.add_argument("--answer", help="say this to everything")
    found.add_argument("--reasoning", help="reasoning_content of chat answers")
    found.add_argument("--fingerprint", default="fp_fault", help="system_fingerprint")
    found.add_argument("--no-logprobs", action="store_true", help="leave logprobs out without a word")
    found.add_argument("--max-logprobs", type=int, help="refuse more with status 400")
    found.add_argument("--owned-by", default="somebody", help="who owns the listed models: how a server says what it runs on")
    found.add_argument("--refuse", help="refuse every prompt that holds this text with status 400")
    found.add_argument("--break", dest="fail_on", help="fail with status 500 on every prompt that holds this text")
    found.add_argument("--no-usage", action="store_true")
    found.add_argument("--gather", type=int, default=0, help="hold every request until so many are in flight")
    found.add_argument("--gather-s", type=float, default=0.2, help="… or so long")
    return found


def main(arguments: list[str]) -> None:
    if arguments:
        server = FaultTeacher(parser().parse_args(arguments))
        print(server.server_address[1], flush=True)
        server.serve_forever()
    for line in sys.stdin:
        server = FaultTeacher(parser().parse_args(json.loads(line)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
