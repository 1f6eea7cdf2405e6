"""An application that decides for Fanfare and is notified by it, with nothing but Python's standard library.

HOOKS_SECRET=whsec_… PORT=3000 python3 receiver.py

It verifies the signature of every request (Standard Webhooks), and answers as docs/hooks.md has it:

- connect: the token `name:ada` is the user ada, of the team that TEAMS has for her; any other token is refused.
- subscribe: the channel `team:blue` is for the team blue.
- publish: a message needs a `text`; it is published without spaces around it.
- rpc: `sum` adds numbers.
- notices: each is printed once, as a line of JSON.
"""

import base64
import hashlib
import hmac
import json
import os
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Several secrets in one text, separated by spaces, are all valid: so one can be replaced.
SECRETS = [base64.b64decode(text.removeprefix("whsec_")) for text in os.environ["HOOKS_SECRET"].split()]
TEAMS = {"ada": "blue", "bob": "red"}
# Requests that are older or newer are refused: somebody may have recorded them.
TOLERANCE_SECONDS = 300


def is_signed(headers, body):
    """Whether one of our secrets has signed this request, and not long ago."""
    id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isascii() or not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    message = f"{id}.{timestamp}.".encode() + body
    good = [base64.b64encode(hmac.digest(secret, message, hashlib.sha256)).decode() for secret in SECRETS]
    shown = [part.removeprefix("v1,") for part in headers.get("webhook-signature", "").split() if part.startswith("v1,")]
    return any(hmac.compare_digest(one.encode(), other.encode()) for one in good for other in shown)


class Refused(Exception):
    """The client gets this error."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def connect(question):
    kind, _, name = question.get("token", "").partition(":")
    if kind != "name" or name not in TEAMS:
        raise Refused("unauthorized", "who are you?")
    return {"user": name, "info": {"team": TEAMS[name]}}


def subscribe(question):
    if question["channel"] != f"team:{TEAMS.get(question.get('user'))}":
        raise Refused("denied", "this is another team's channel")
    return {}


def publish(question):
    data = question.get("data")
    text = data.get("text", "").strip() if isinstance(data, dict) else ""
    if not text:
        raise Refused("bad_request", "a message needs a text")
    return {"data": {**data, "text": text}}


def rpc(question):
    if question["method"] != "sum":
        raise Refused("not_found", "there is no such method")
    return {"data": sum(question["data"])}


ANSWERS = {"connect": connect, "refresh": connect, "subscribe": subscribe, "publish": publish, "rpc": rpc}
# The last ids: a notice may come twice. A real application keeps them where it keeps what it does with a notice.
seen = OrderedDict()


def take_notices(notices):
    for notice in notices:
        if notice["id"] not in seen:
            print(json.dumps(notice), flush=True)
            seen[notice["id"]] = True
            if len(seen) > 10_000:
                seen.popitem(last=False)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not is_signed(self.headers, body):
            return self.answer(401, {})
        question = json.loads(body)
        if question["type"] == "notices":
            take_notices(question["notices"])
            return self.answer(200, {})
        try:
            return self.answer(200, {"result": ANSWERS[question["type"]](question)})
        except Refused as refused:
            return self.answer(200, {"error": {"code": refused.code, "message": str(refused)}})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "3000"))), Handler)
    server.daemon_threads = True
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
