"""One `thesis run` at a time on a run, and no process left of one that died.

The lock is the operating system's (flock), so it ends with its process. What stays after a kill -9 are the children:
they carry a token in their environment, the run's folder remembers it, and the next `thesis run` stops who carries it.
A process without the token is never touched, whatever its number.
"""

import fcntl
import json
import os
import platform
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from thesis_lib.errors import ThesisError

LOCK = ".running.json"
TOKEN = "THESIS_RUN_TOKEN"


@contextmanager
def running(run: Path) -> Iterator[str]:
    """Hold a run for this process, and stop its children at the end.

    Args:
        run: The run's folder.

    Yields:
        The token the children must have in their environment under the name TOKEN.

    Raises:
        ThesisError: Another `thesis run` is at work on it, or died on another machine; or files cannot be locked there.
    """
    with (run / LOCK).open("a+", encoding="utf-8") as file:
        file.seek(0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = json.loads(file.read() or "{}").get("pid", "another process")
            raise ThesisError(f"{run}: process {owner} is at work on it: wait, or stop it with kill {owner}") from None
        except OSError as error:
            raise ThesisError(
                f"{run}: its file system cannot lock files ({error.strerror}), so two commands could work on one run: "
                "name a folder on another one in THESIS_RUNS"
            ) from None
        if dead := json.loads(file.read() or "{}"):
            if dead["machine"] != platform.node():
                raise ThesisError(
                    f"{run}: a run on {dead['machine']} did not end properly: if nothing runs there any more, "
                    f"delete {run / LOCK} and try again"
                )
            stop(dead["token"])
        mine = {"token": uuid.uuid4().hex, "pid": os.getpid(), "machine": platform.node(), "started": time.ctime()}
        file.truncate(0)
        file.write(json.dumps(mine))
        file.flush()
        try:
            yield str(mine["token"])
        finally:
            stop(str(mine["token"]))
            file.truncate(0)


def is_running(run: Path) -> bool:
    """Whether a `thesis run` of this machine holds a run."""
    if not (run / LOCK).exists():
        return False
    with (run / LOCK).open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # cannot lock there, so nothing holds it
            return False
    return False


def stop(token: str, patience: float = 10.0) -> None:
    """End every process that carries the token: politely, and after `patience` seconds for good."""
    deadline = time.monotonic() + patience
    asked: set[psutil.Process] = set()
    while carriers := _carriers(token):
        for process in carriers:
            try:
                if time.monotonic() > deadline:
                    process.kill()
                elif process not in asked:
                    # Snakemake waits for its jobs on SIGTERM; on SIGINT it cancels those on a cluster.
                    process.send_signal(signal.SIGINT if "snakemake" in process.cmdline() else signal.SIGTERM)
                    asked.add(process)
            except psutil.Error:
                continue
        psutil.wait_procs(carriers, timeout=0.2)


def _carriers(token: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TOKEN) == token:
                found.append(process)
        except psutil.Error:  # gone, a zombie, or not ours to see
            continue
    return found
