"""Two that want the same run: one gets it, the other one is told who has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import napari_pisam
from finetune_runs import SHORT, make_run, train, use_micro
from napari_pisam.learn.finetune import run as run_module
from napari_pisam.learn.finetune.layout import STATE, read_json, write_json
from napari_pisam.learn.finetune.lock import RunLock, is_held, taken
from napari_pisam.learn.finetune.process import REFUSED
from napari_pisam.learn.finetune.run import FineTuneRun

HOLDER = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from napari_pisam.learn.finetune.lock import RunLock\n"
    "lock = RunLock(Path(sys.argv[1]))\n"
    "print(lock.acquire(), flush=True)\n"
    "time.sleep(600)\n"
)


class FakeChild:
    """A process that the test ends."""

    was_killed = False

    def __init__(self):
        self.code, self.sent = None, []

    def exit_code(self):
        return self.code

    def send(self, command):
        self.sent.append(command)

    def close(self):
        pass


@pytest.fixture
def run(tmp_path, monkeypatch):
    use_micro(monkeypatch)
    return make_run(tmp_path / "run", **SHORT)


@pytest.fixture
def child(monkeypatch):
    fake = FakeChild()
    monkeypatch.setattr(run_module.Child, "start", lambda *_: fake)
    return fake


@pytest.fixture
def holder(run):
    """Another process that works on the run."""
    roots = [str(Path(napari_pisam.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(roots)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"True"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lock_excludes_another_one_of_the_same_program(tmp_path):
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    assert not is_held(tmp_path)
    assert first.acquire()
    assert not second.acquire()
    assert is_held(tmp_path)
    first.release()
    assert not is_held(tmp_path)
    assert second.acquire()
    second.release()


def test_what_goes_on_elsewhere_is_refused_with_who_has_it(run, holder):
    state = (run.folder / STATE).exists()
    for action in (run.start, run.resume, run.pause, run.stop):
        with pytest.raises(ValueError, match=rf"going on already \(process {holder.pid} on .+\)"):
            action()
    code, content = train(run)
    assert code == REFUSED
    assert f"process {holder.pid}" in content["error"]
    assert (run.folder / STATE).exists() == state


def test_a_killed_process_leaves_the_run_free_at_once(run, holder):
    assert is_held(run.folder)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not is_held(run.folder)
    assert train(run)[1]["status"] == "finished"


def test_a_run_that_ended_is_free(run):
    train(run)
    assert not is_held(run.folder)


def test_starting_writes_nothing_before_the_process_has_the_run(run, child):
    write_json(run.folder / STATE, {"status": "stopped", "step": 3})
    run.start()
    assert run.poll().status == "starting"
    assert not run.poll().can_resume
    assert read_json(run.folder / STATE)["status"] == "stopped"
    write_json(run.folder / STATE, {"status": "running", "step": 4})
    assert run.poll().status == "running"


def test_who_comes_second_is_told_and_watches(run, child):
    run.start()
    # Meanwhile another one was quicker.
    other = RunLock(run.folder)
    assert other.acquire()
    content = {"status": "running", "step": 7}
    write_json(run.folder / STATE, content)
    child.code = REFUSED
    with pytest.raises(ValueError, match="going on already"):
        run.poll()
    assert run.poll().step == 7
    assert read_json(run.folder / STATE) == content
    other.release()


def test_one_whose_process_ended_does_not_write_over_who_went_on(run, child):
    run.start()
    write_json(run.folder / STATE, {"status": "running", "step": 2})
    child.code = -9
    other = RunLock(run.folder)
    assert other.acquire()
    content = {"status": "running", "step": 5}
    write_json(run.folder / STATE, content)
    assert run.poll().step == 5
    assert read_json(run.folder / STATE) == content
    other.release()


def test_a_process_that_ends_before_it_says_anything_has_failed(run, child):
    write_json(run.folder / STATE, {"status": "stopped", "step": 3})
    run.start()
    child.code = 1
    assert run.poll().status == "failed"


def test_one_that_was_killed_is_gone_before_the_system_has_cleared_it_away(run, child):
    run.start()
    write_json(run.folder / STATE, {"status": "running", "step": 2})
    dying = RunLock(run.folder)
    assert dying.acquire()
    child.was_killed = True
    state = run.poll()
    dying.release()
    assert (state.status, state.can_resume) == ("interrupted", True)


def test_a_damaged_lock_file_still_says_a_sentence(tmp_path):
    (tmp_path / "lock").write_bytes(b"{")
    assert "another process" in taken(tmp_path)


def test_a_paused_run_can_be_gone_on_with(run):
    write_json(run.folder / STATE, {"status": "paused", "step": 3})
    holder = RunLock(run.folder)
    assert holder.acquire()
    state = FineTuneRun.open(run.folder).poll()
    holder.release()
    assert state.status == "paused"
    assert state.can_resume


def test_the_lock_alone_says_whether_a_run_goes_on(run):
    write_json(run.folder / STATE, {"status": "running", "step": 3})
    holder = RunLock(run.folder)
    assert holder.acquire()
    # However long ago it said anything.
    os.utime(run.folder / STATE, (0, 0))
    assert FineTuneRun.open(run.folder).poll().status == "running"
    holder.release()
    (run.folder / "alive").touch()  # what earlier versions touched
    assert FineTuneRun.open(run.folder).poll().status == "interrupted"
