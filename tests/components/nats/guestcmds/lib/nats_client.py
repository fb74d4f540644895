"""What: what the guest commands of nats-cmd share: a client of this node's own server, and their ways to fail.

Why:   Debian has the server but not its command line tool; NATS' protocol is lines of text, and all of JetStream is asked
       by messages, so a client for questions and answers is one page of Python's standard library.

Never: connects to another server than this node's own; keeps a connection open; shows the system account's password.
"""

import json
import os
import re
import socket

import straas_cmd
from straas_cmd import Refused

ANSWER_S_MAX = 10  # of the cluster; well below each command's timeout
LINE_BYTES_MAX = 1024 * 1024


def run(command):
    """Runs a command with its arguments; what it returns is its result."""
    def spoken(given):
        try:
            return command(given)
        except OSError as error:
            raise Refused(f"this node's NATS server cannot be spoken to ({error}); does it run?") from error
    straas_cmd.run(spoken)


class Client:
    """A connection to this node's server, as a client or, with system=True, with the system account's rights."""

    def __init__(self, system=False):
        conf = os.path.join(os.environ["STRAAS_PREFIX"] + "/etc/nats/straas")
        try:
            with open(f"{conf}/nats.conf", encoding="utf-8") as file:
                listen = re.search(r'^listen: "\[?([^"\]]+)\]?:(\d+)"', file.read(), re.M)
        except FileNotFoundError:
            raise Refused(f"there is no {conf}/nats.conf: this node runs no configured NATS") from None
        options = {"verbose": False, "pedantic": False, "name": "straas", "lang": "python", "version": "1"}
        if system:
            with open(f"{conf}/system.conf", encoding="utf-8") as file:
                options.update(user="straas", **{"pass": re.search(r'password: "([^"]+)"', file.read())[1]})
        self.socket = socket.create_connection((listen[1], int(listen[2])), timeout=ANSWER_S_MAX)
        self.stream = self.socket.makefile("rb")
        self.line()  # INFO
        self.inboxes = 0
        self.put(f"CONNECT {json.dumps(options)}\r\nPING\r\n")
        self.until("PONG")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def put(self, text):
        """Sends."""
        self.socket.sendall(text.encode("utf-8"))

    def line(self):
        """The next line."""
        line = self.stream.readline(LINE_BYTES_MAX)
        if not line:
            raise Refused("the server closed the connection")
        return line.decode("utf-8", "replace").rstrip("\r\n")

    def until(self, wanted):
        """The next line that begins with `wanted`; answers the server's own questions meanwhile."""
        while True:
            line = self.line()
            if line.startswith("-ERR"):
                raise Refused(f"the server refused: {line[5:]}")
            if line == "PING":
                self.put("PONG\r\n")
            elif line.startswith(wanted):
                return line

    def ask(self, subject, body=None):
        """One question, one answer, both JSON; an error in the answer is Refused unless `errors` takes it."""
        self.inboxes += 1
        inbox, payload = f"_INBOX.straas.{os.getpid()}.{self.inboxes}", json.dumps(body) if body is not None else ""
        self.put(f"SUB {inbox} {self.inboxes}\r\nPUB {subject} {inbox} {len(payload)}\r\n{payload}\r\n")
        try:
            size = int(self.until("MSG").split()[-1])
        except TimeoutError:
            raise Refused(f"nobody answered {subject} within {ANSWER_S_MAX} s; has the cluster a leader?") from None
        return json.loads(self.stream.read(size + 2) or "{}")


def checked(answer, *accepted):
    """The answer, unless it is an error; `accepted` error codes come back as {"error": code}."""
    error = answer.get("error")
    if not error:
        return answer
    if error.get("err_code") in accepted:
        return {"error": error["err_code"]}
    raise Refused(f"the cluster refused: {error.get('description', error)}")
