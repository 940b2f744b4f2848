"""A receiver in Python (3.8 or later) with nothing but its standard library, behind what ends TLS: python3 receiver.py

SECRET_FILE holds the secrets that are accepted, one a line; INBOX is the folder where leads are kept; PORT is where to listen.
"""
from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


# verify: begin
def verify(raw_body: bytes, header: str | None, secrets: list[str]) -> bool:
    if not re.fullmatch(r"sha256=[0-9a-f]{64}", header or ""):
        return False
    keys = (secret.encode() for secret in secrets if len(secret) == 50)
    tags = ("sha256=" + hmac.new(key, raw_body, hashlib.sha256).hexdigest() for key in keys)
    return any([hmac.compare_digest(tag, header) for tag in tags])
# verify: end


MOST = 1024 * 1024


def secrets() -> list[str]:
    with open(os.environ["SECRET_FILE"]) as lines:
        return [line.strip() for line in lines if line.strip()]


def keep(key: str, body: bytes) -> bool:
    """Writes the lead down, once; False: it is there already. In earnest: a row, and a unique index over the same."""
    inbox = os.environ["INBOX"]
    part = f"{inbox}/{uuid.uuid4()}.part"
    try:
        with open(part, "xb") as file:
            file.write(body)
        os.link(part, f"{inbox}/{hashlib.sha256(key.encode()).hexdigest()}.json")
        return True
    except FileExistsError:
        return False
    finally:
        if os.path.exists(part):
            os.unlink(part)


class Receiver(BaseHTTPRequestHandler):
    timeout = 10  # Seconds that a client may be still.

    def do_POST(self):
        try:
            status = self.receive()
        except OSError as error:
            self.log_error("%s", error)
            status = 503
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def receive(self) -> int:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            return 411
        if int(length) > MOST:
            return 413
        body = self.rfile.read(int(length))
        if not verify(body, self.headers.get("X-Wilow-Signature"), secrets()):
            return 401
        try:
            lead = json.loads(body)
            lead_id, event = lead["leadId"], lead["event"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return 422
        if not all(isinstance(value, str) and value for value in (lead_id, event)):
            return 422
        # Of the signed body: headers are not signed by this scheme.
        key = json.dumps([lead.get("tenantId"), lead_id, event, lead.get("lastConversationAt")])
        # A Test is no lead.
        told = "test" if lead_id.startswith("test_") else "new" if keep(key, body) else "again"
        print(f"{told} {json.dumps(lead_id)}\n", end="", flush=True)  # At once, so that two lines stay two.
        return 204  # It is written down; what takes longer comes afterwards.

    def log_request(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


server = Server(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Receiver)
print("listening on", server.server_port, flush=True)
server.serve_forever()
