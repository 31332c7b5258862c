"""One run at a time; only processes that carry the run's token are stopped."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thesis_lib.errors import ThesisError
from thesis_lib.workflow.lock import LOCK, TOKEN, is_running, running, stop


def sleeper(token: str | None, deaf: bool = False) -> subprocess.Popen[bytes]:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code if deaf else code.replace("SIG_IGN", "SIG_DFL")],
        env=os.environ | ({TOKEN: token} if token else {}),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout and process.stdout.readline()
    return process


def test_only_carriers_of_the_token_are_stopped() -> None:
    ours, other, none = sleeper("a"), sleeper("b"), sleeper(None)
    stop("a")
    ours.wait(5)
    assert other.poll() is None and none.poll() is None
    for process in (other, none):
        process.kill()
        process.wait()


def test_a_process_that_does_not_listen_is_killed() -> None:
    deaf = sleeper("a", deaf=True)
    stop("a", patience=0.5)
    deaf.wait(5)


def test_lock_is_held_and_released(tmp_path: Path) -> None:
    with running(tmp_path) as token:
        child = sleeper(token)
        with pytest.raises(ThesisError, match=f"process {os.getpid()} is at work on it"), running(tmp_path):
            pass
        assert child.poll() is None
    child.wait(5)
    with running(tmp_path) as second:
        assert second != token
    assert (tmp_path / LOCK).read_text() == ""


def test_a_run_is_known_to_be_at_work_while_it_is(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with running(tmp_path):
        assert is_running(tmp_path)
    assert not is_running(tmp_path)


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("thesis_lib.workflow.lock.fcntl.flock", flock)
    with pytest.raises(ThesisError, match=r"cannot lock files .* THESIS_RUNS"), running(tmp_path):
        pass


def test_children_of_a_dead_run_are_stopped(tmp_path: Path) -> None:
    left = sleeper("dead")
    (tmp_path / LOCK).write_text(json.dumps({"token": "dead", "machine": os.uname().nodename}))
    with running(tmp_path):
        left.wait(5)


def test_a_run_that_died_elsewhere_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(json.dumps({"token": "dead", "machine": "elsewhere"}))
    with pytest.raises(ThesisError, match=r"a run on elsewhere did not end properly.*delete"), running(tmp_path):
        pass
    assert "elsewhere" in (tmp_path / LOCK).read_text()
