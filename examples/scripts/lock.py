"""Runs a command under a lock, with nothing but Python's standard library.

    python3 lock.py NAME COMMAND [ARGUMENT...]

CONCLAVE_API is a host's address. The command finds its token, which grows with
every later owner, in CONCLAVE_TOKEN: what it writes to should refuse smaller ones.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

API = os.environ.get("CONCLAVE_API", "http://127.0.0.1:2378")


class Refused(Exception):
    """The host's answer to a call that it refused: a code, and a message that begins with the reason."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def call(method, request, timeout=None):
    """Calls conclave.METHOD and returns the answer as a dict."""
    post = urllib.request.Request(
        f"{API}/conclave.{method}", json.dumps(request).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(post, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        error = json.load(refused)
        raise Refused(error["code"], error["message"]) from None


class Session:
    """A lease kept alive. `lost` is set before anyone else can own what it owns."""

    def __init__(self, owner, ttl=15):
        self.ttl, self.lost, self.closed = ttl, threading.Event(), threading.Event()
        self.sent = time.monotonic()
        self.id = call("session.v1.SessionService/Open", {"ttl": f"{ttl}s", "owner": owner}, timeout=5)["sessionId"]
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self):
        # Validity counts from the moment at which the last answered renewal was sent.
        while not self.closed.wait(self.ttl / 4):
            sent = time.monotonic()
            try:
                call("session.v1.SessionService/Renew", {"sessionId": self.id}, timeout=3)
                self.sent = sent
            except Refused as refused:
                if refused.code == "failed_precondition":  # session_expired
                    break
            except OSError:
                pass  # no answer: try again while there is time
            if time.monotonic() - self.sent > self.ttl - 5:
                break
        if not self.closed.is_set():
            self.lost.set()

    def acquire(self, name, **options):
        """Waits for the name and returns the token; options are Acquire's other fields."""
        answer = call("lock.v1.LockService/Acquire", {"sessionId": self.id, "name": name, **options})
        return int(answer["token"])

    def release(self, name, token):
        call("lock.v1.LockService/Release", {"sessionId": self.id, "name": name, "token": str(token)}, timeout=5)

    def close(self):
        self.closed.set()
        call("session.v1.SessionService/Close", {"sessionId": self.id}, timeout=5)


def main(name, command):
    session = Session(f"lock.py {os.getpid()}")
    try:
        token = session.acquire(name, purpose=command[0])
        print(f"lock.py: owns {name} with token {token}", file=sys.stderr)
        job = subprocess.Popen(command, env={**os.environ, "CONCLAVE_NAME": name, "CONCLAVE_TOKEN": str(token)})
        while True:
            try:
                code = job.wait(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                if session.lost.is_set():
                    job.kill()
                    job.wait()
                    print("lock.py: the session was lost; the command was ended", file=sys.stderr)
                    return 7
        session.release(name, token)
        return code
    finally:
        session.close()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
