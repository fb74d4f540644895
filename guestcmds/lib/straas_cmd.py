"""What: the frame of a guest command in Python: arguments in, messages out, every way to fail a hint.

Why:   a command's own file then holds what it does, and a program that calls it can rely on its exit codes.

Never: runs anything; knows a component.
"""

import json
import os
import sys

EX_USAGE = 64
RESULT_BYTES_MAX = 16 * 1024 - 512  # of the contract's 16 KiB, less the frame around it
TEXT_CHARS_MAX = 2000  # texts are for people


class Refused(Exception):
    """The arguments are wrong, or what was asked for cannot be done. The text is the hint; `code` the exit code."""

    def __init__(self, text, code=1):
        super().__init__(text)
        self.code = code


def send(kind, body):
    """Sends one message."""
    print("@straas " + json.dumps({kind: body}, separators=(",", ":")), flush=True)


def progress(text, percent=None):
    """What happens now."""
    send("progress", {"text": text[:TEXT_CHARS_MAX], **({} if percent is None else {"percent": percent})})


def result(body, *lists):
    """The answer for programs. What is longer than a result may be loses the ends of its `lists`, and says so."""
    while len(json.dumps(body)) > RESULT_BYTES_MAX and any(body[key] for key in lists):
        longest = max(lists, key=lambda key: len(body[key]))
        body[longest] = body[longest][:len(body[longest]) // 2]
        body["cut"] = True
    send("result", body)


def arguments():
    """The arguments as the contract hands them over."""
    path = os.environ.get("STRAAS_ARGS")
    if not path:
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def run(work):
    """Runs `work(arguments)` and ends the process. Its answer, if it returns one, is the command's result."""
    try:
        answer = work(arguments())
    except Refused as no:
        send("hint", str(no))
        sys.exit(no.code)
    if answer is not None:
        result(answer)
    sys.exit(0)
