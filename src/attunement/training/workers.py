"""Starts a run's processes on this machine, one a device, and sees that they end together.

    python -m attunement.training.workers     one of them; what to do comes as a line of JSON on its standard input

Where torchrun, SLURM or another launcher has started the processes, nothing is started here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attunement.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, ConfigError, ModelError, UserError
from attunement.records import ModelConfig, TrainingConfig, TrainingDataset, to_dict
from attunement.training.signals import Signals

EXIT_RESTART, EXIT_LOST = 75, 76
"""Of a worker: all must start again; another one is gone."""
WORKER = (sys.executable, "-m", "attunement.training.workers")
GRACE_SECONDS = 10.0
"""How long the others have once one has failed; what the first is writing then is whole or not there."""
LOOK_SECONDS = 0.05


def train_in_workers(
    run_dir: Path, model: ModelConfig, dataset: TrainingDataset, config: TrainingConfig, *, devices: int, device: str, quiet: bool
) -> None:
    """Trains in `devices` new processes (on each of `config.nodes` machines) and waits for them.

    The first signal is passed on. Raises the first failure, as `ModelError`, and `KeyboardInterrupt` after a signal.
    """
    task = {
        "run_dir": str(run_dir),
        "model": to_dict(model),
        "dataset": {name: value and str(value) for name, value in vars(dataset).items()},
        "training": to_dict(config),
        "device": device,
        "quiet": quiet,
    }
    with Signals() as signals, tempfile.TemporaryDirectory() as errors:
        while EXIT_RESTART in (codes := _run_once(task, Path(errors), _places(devices, config.nodes), signals)).values():
            pass  # how often, the run itself counts (`training.max_retries`)
        if signals or EXIT_INTERRUPTED in codes.values():
            raise KeyboardInterrupt
        failed = [rank for rank, code in codes.items() if code]
        if failed:  # a process that was just told to end is the cause only where there is no other
            rank = min(
                failed, key=lambda rank: (codes[rank] == EXIT_LOST, codes[rank] > 0 and not (Path(errors) / str(rank)).is_file())
            )
            raise _told(rank, codes[rank], errors=Path(errors), run_dir=run_dir)


def _places(devices: int, nodes: int) -> list[dict[str, str]]:
    """The environment of each process of this machine. Raises `ConfigError` where another machine could not be found."""
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if nodes > 1 and any(name not in os.environ for name in names):
        raise ConfigError(
            f"training.nodes is {nodes}: start the same command on each with torchrun or srun, or set {', '.join(names)} there"
        )
    given = [os.environ[name] for name in names] if nodes > 1 else ["127.0.0.1", str(_free_port()), "0"]
    cores = max(1, (os.cpu_count() or 1) // devices)  # else each would take all of them
    shared = {"OMP_NUM_THREADS": str(cores), **os.environ, "MASTER_ADDR": given[0], "MASTER_PORT": given[1]}
    size, before = str(devices * nodes), int(given[2]) * devices
    return [{**shared, "WORLD_SIZE": size, "RANK": str(before + i), "LOCAL_RANK": str(i)} for i in range(devices)]


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def _run_once(task: Mapping[str, Any], errors: Path, places: Sequence[Mapping[str, str]], signals: Signals) -> dict[int, int]:
    """The exit codes of all processes by rank, in the order in which they ended; of those that were ended here, `EXIT_LOST`."""
    # Sessions of their own: the terminal's Ctrl-C reaches this process only, which passes it on once.
    workers = {
        int(place["RANK"]): subprocess.Popen(WORKER, stdin=subprocess.PIPE, env=place, start_new_session=True)  # noqa: S603
        for place in places
    }
    codes: dict[int, int] = {}
    deadline, passed_on = float("inf"), False
    try:
        for rank, worker in workers.items():
            assert worker.stdin is not None
            with suppress(BrokenPipeError):  # one that ended already is told below
                worker.stdin.write(json.dumps({**task, "error": str(errors / str(rank))}).encode() + b"\n")
                worker.stdin.flush()
        while len(codes) < len(workers):
            for rank, worker in workers.items():
                if rank not in codes and (code := worker.poll()) is not None:
                    codes[rank] = EXIT_LOST if time.monotonic() > deadline else code
                    if code:
                        deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
            if signals and not passed_on:
                passed_on = True
                _send(workers.values(), signals.caught)
            if time.monotonic() > deadline:
                _send(workers.values(), signal.SIGKILL)
            time.sleep(LOOK_SECONDS)
    finally:
        _send(workers.values(), signal.SIGKILL)
        for worker in workers.values():
            worker.communicate()
    return codes


def _send(workers: Any, number: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)


def _told(rank: int, code: int, *, errors: Path, run_dir: Path) -> Exception:
    path = errors / str(rank)
    if path.is_file():
        return ModelError(path.read_text(encoding="utf-8"))
    if code < 0:
        name = signal.Signals(-code).name
        return ModelError(
            f"process {rank} of the run was ended by {name}, so the others ended as well: go on with  attune train resume {run_dir}"
        )
    return RuntimeError(f"process {rank} of the run failed; what it told stands above")


def main() -> None:
    """A worker. It ends like after SIGTERM when the process that started it is gone."""
    from attunement.training.processes import LostProcessError, RestartError
    from attunement.training.system import TrainingSystem

    task = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    paths = {name: value and Path(value) for name, value in task["dataset"].items() if name != "dataset_sha256"}
    dataset = TrainingDataset(**paths, dataset_sha256=task["dataset"]["dataset_sha256"])
    try:
        system = TrainingSystem(Path(task["run_dir"]), quiet=task["quiet"], device=task["device"])
        system.run(ModelConfig(**task["model"]), dataset, TrainingConfig(**task["training"]))
    except UserError as error:
        Path(task["error"]).write_text(str(error), encoding="utf-8")
        codes = {RestartError: EXIT_RESTART, LostProcessError: EXIT_LOST}
        _exit(codes.get(type(error), EXIT_USER_ERROR))
    except OSError as error:  # a full disk, as at the command line
        Path(task["error"]).write_text(f"{error.filename or 'a file'}: {error.strerror or error}", encoding="utf-8")
        _exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        _exit(EXIT_INTERRUPTED)


def _exit(code: int) -> None:
    """At once: a connection whose other end is gone may block what Python does at its end."""
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing comes any more: it returns when the other end is closed
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
