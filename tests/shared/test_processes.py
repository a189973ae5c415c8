from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from components.shared import processes
from components.shared.processes import ChildFailed, run_child
from tests.waiting import SOON, runs, wait_for

# a child that starts a grandchild in a session of its own, as launchers do; neither knows of us
CHILD = """
import pathlib, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(f"{__import__('os').getpid()} {grandchild.pid}")
time.sleep(float(sys.argv[2]))
"""
PARENT = """
import os, signal, sys, pathlib
from components.shared.processes import run_child
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
run_child([sys.executable, "-c", sys.argv[1], sys.argv[2], "120"], env=os.environ, log=pathlib.Path(sys.argv[3]))
"""


def pids_in(path: Path, count: int = 2) -> list[int]:
    wait_for(lambda: path.is_file() and len(path.read_text().split()) == count)
    return [int(pid) for pid in path.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_child_and_grandchild_in_its_own_session_die_with_a_killed_parent(tmp_path, number):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, str(tmp_path / "pids"), str(tmp_path / "log")], stderr=subprocess.DEVNULL
    )
    pids = pids_in(tmp_path / "pids")
    parent.send_signal(number)
    parent.wait(SOON)
    wait_for(lambda: not any(map(runs, pids)), what="a process outlived its parent")


def test_an_exception_in_the_waiting_parent_kills_the_tree(tmp_path):
    def interrupt(_number, _frame):
        raise TimeoutError

    def interrupt_once_started():
        pids_in(tmp_path / "pids")
        os.kill(os.getpid(), signal.SIGALRM)

    previous = signal.signal(signal.SIGALRM, interrupt)
    watcher = threading.Thread(target=interrupt_once_started)
    watcher.start()
    try:
        with pytest.raises(TimeoutError):
            run_child(
                [sys.executable, "-c", CHILD, str(tmp_path / "pids"), "120"], env=os.environ, log=tmp_path / "log"
            )
    finally:
        watcher.join()
        signal.signal(signal.SIGALRM, previous)
    assert not any(map(runs, pids_in(tmp_path / "pids")))


def test_what_a_child_leaves_running_is_killed_when_it_ends(tmp_path):
    run_child([sys.executable, "-c", CHILD, str(tmp_path / "pids"), "0"], env=os.environ, log=tmp_path / "log")
    assert not any(map(runs, pids_in(tmp_path / "pids")))


def test_a_failed_child_is_reported_with_command_exit_code_and_the_last_30_lines_of_its_log(tmp_path):
    program = "import sys; print(*(f'line {i}' for i in range(100)), sep='\\n'); sys.exit(1)"
    with pytest.raises(ChildFailed) as failure:
        run_child([sys.executable, "-c", program], env=os.environ, log=tmp_path / "log")
    message = str(failure.value)
    assert sys.executable in message and "exit code 1" in message and str(tmp_path / "log") in message
    assert "line 70\n" in message and message.endswith("line 99") and "line 69\n" not in message


def test_a_child_killed_by_a_signal_is_reported_by_the_signals_name(tmp_path):
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(ChildFailed, match="SIGKILL") as failure:
        run_child([sys.executable, "-c", program], env=os.environ, log=tmp_path / "log")
    assert failure.value.returncode == -9


def test_the_child_gets_only_the_environment_it_is_given_and_a_working_interrupt(tmp_path):
    program = (
        "import os, signal; "
        "assert os.environ['GIVEN'] == '1' and 'HOME' not in os.environ, dict(os.environ); "
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    run_child([sys.executable, "-c", program], env={"GIVEN": "1"}, log=tmp_path / "log", cwd=tmp_path)


def test_a_process_below_a_shell_dies_with_the_ancestor_that_named_itself(tmp_path):
    step = (
        "import os, pathlib, sys, time; from components.shared.processes import die_with_parent; die_with_parent(); "
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(120)"
    )
    runner = (
        "import subprocess, sys; from components.shared.processes import name_ancestor; name_ancestor(); "
        "subprocess.run(['sh', '-c', '\"$0\" \"$@\"; true', sys.executable, '-c', sys.argv[1], sys.argv[2]])"
    )
    parent = subprocess.Popen([sys.executable, "-c", runner, step, str(tmp_path / "pid")])
    (pid,) = pids_in(tmp_path / "pid", count=1)
    parent.kill()  # not waited for: a zombie counts as gone
    wait_for(lambda: not runs(pid))
    parent.wait()


def test_a_process_whose_parent_is_killed_dies_also_if_it_is_busy_in_native_code(tmp_path):
    # re.match with exponential backtracking holds the interpreter's lock: no thread of ours can run
    step = (
        "import os, pathlib, re, sys; from components.shared.processes import die_with_parent; die_with_parent(); "
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); re.match('(a+)+b', 'a' * 60)"
    )
    runner = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"
    parent = subprocess.Popen([sys.executable, "-c", runner, step, str(tmp_path / "pid")])
    (pid,) = pids_in(tmp_path / "pid", count=1)
    parent.kill()
    parent.wait()
    wait_for(lambda: not runs(pid))


def test_an_ancestor_is_the_same_one_when_the_machines_clock_was_set(monkeypatch):
    monkeypatch.setenv("DEEPVIDEO_ANCESTOR", "")  # put back afterwards
    processes.name_ancestor()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: 0.0)  # Linux works it out from the time of day
    assert processes._lives(*processes._named_ancestor())
    pid, _ = processes._named_ancestor()
    assert not processes._lives(pid, "1")  # another process under its number
