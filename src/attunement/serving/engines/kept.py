"""A server that ends with whoever started it: `python kept.py COMMAND...`, whose standard input is a pipe that the starter holds.

The pipe closes when the starter ends, however it ends; the server is then asked to, and after `GRACE_SECONDS` made to. What it had
started itself goes too: vLLM's engine and workers hold a GPU's memory, and without their server nobody would end them.

Run as a file, with nothing but the standard library, so that it is there at once.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

GRACE_SECONDS = 20.0
PR_SET_CHILD_SUBREAPER = 36


def keep(command: Sequence[str]) -> int:
    """Runs `command` in a group of its own until it ends or standard input does; its exit status."""
    if sys.platform == "linux":  # what the server leaves behind becomes ours, so that we can wait for its end
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - the starter's own command
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: server.terminate())
    threading.Thread(target=_end_with_starter, args=(server,), daemon=True).start()
    code = server.wait()
    _kill_group(server)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return code


def _end_with_starter(server: subprocess.Popen[bytes]) -> None:
    while os.read(0, 64):
        pass
    server.terminate()
    try:
        server.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _kill_group(server)


def _kill_group(server: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
