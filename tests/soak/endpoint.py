"""A teacher behind an endpoint that changes on command: a real server, whose behaviour is read from a file at every request.

``python -m tests.soak.endpoint FOLDER`` serves the labels of ``FOLDER/labelled.jsonl``, and a rule for other texts. ``behaviour.json`` beside it: ``wrong``
is the share of wrong completions for each slice, ``fingerprint`` its ``system_fingerprint``, ``down`` makes it refuse. ``asked.jsonl`` gets a line for
each request. The port is printed as the first line.
"""

from __future__ import annotations

import json
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LABELS = ("card", "fee", "other", "pin")
_FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
_LOCK = threading.Lock()


def known_texts() -> dict[str, tuple[str, str | None]]:
    """Text → its slice, and its label if it has one."""
    texts = {}
    for name in ("unlabelled", "labelled"):
        for line in (_FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts[row["text"].strip()] = (row["slice"], row.get("label"))
    return texts


def rule(text: str) -> str:
    words = text.lower()
    return "pin" if "pin" in words else "fee" if "fee" in words or "charge" in words else "card"


def completion(text: str, slice: str, label: str, wrong: dict[str, float]) -> str:
    """The label, or for the given share of a slice's texts the next one in the list. A larger share is wrong on the same texts and on more."""
    place = zlib.crc32(text.encode()) % 1000 / 1000.0
    return LABELS[(LABELS.index(label) + 1) % len(LABELS)] if place < wrong.get(slice, 0.0) else label


class Handler(BaseHTTPRequestHandler):
    texts: dict[str, tuple[str, str | None]]

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        behaviour = json.loads((_FOLDER / "behaviour.json").read_text(encoding="utf-8"))
        text = str(body.get("prompt", "")).removesuffix("=>").strip()
        slice, label = self.texts.get(text, ("", None))
        with _LOCK, (_FOLDER / "asked.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"text": text, "slice": slice, "seed": body.get("seed"), "max_tokens": body.get("max_tokens")}) + "\n")
        if behaviour.get("down"):
            self._send(503, {"error": {"message": "down for maintenance"}})
            return
        text_out = completion(text, slice, label or rule(text), behaviour.get("wrong", {}))
        choice = {"index": 0, "finish_reason": "stop", "text": f" {text_out}"}
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": 1, "total_tokens": len(text.split()) + 1}
        self._send(
            200, {"model": body["model"], "choices": [choice], "system_fingerprint": behaviour.get("fingerprint", "fp"), "usage": usage}
        )

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": "served", "object": "model", "owned_by": "soak"}]})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """The record says what was asked."""


def main() -> None:
    Handler.texts = known_texts()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
