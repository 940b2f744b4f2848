"""A receiver in Python, with nothing but its standard library: python3 receiver.py

SECRET_FILE holds the secrets that are accepted, one a line; PORT is where to listen.
"""
import hashlib
import hmac
import json
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


# verify: begin
def verify(raw_body: bytes, header: str | None, secrets: list[str]) -> bool:
    if not re.fullmatch(r"sha256=[0-9a-f]{64}", header or ""):
        return False
    tags = ("sha256=" + hmac.new(secret.encode(), raw_body, hashlib.sha256).hexdigest() for secret in secrets)
    return any([hmac.compare_digest(tag, header) for tag in tags])
# verify: end


MOST = 1024 * 1024
seen = set()  # In earnest: a unique index in the database that the lead goes into.


def secrets() -> list[str]:
    with open(os.environ["SECRET_FILE"]) as lines:
        return [line.strip() for line in lines if line.strip()]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return self.answer(411)
        if int(length) > MOST:
            return self.answer(413)
        body = self.rfile.read(int(length))
        if not verify(body, self.headers.get("X-Wilow-Signature"), secrets()):
            return self.answer(401)
        lead = json.loads(body)
        # Of the signed body: headers are not signed by this scheme.
        key = (lead["leadId"], lead["event"], lead.get("lastConversationAt"))
        is_new = key not in seen
        seen.add(key)
        self.answer(204)  # At once; what takes longer comes afterwards.
        print(lead["event"] if is_new else "again", lead["leadId"], flush=True)

    def answer(self, status: int):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Receiver)
print("listening on", server.server_port, flush=True)
server.serve_forever()
