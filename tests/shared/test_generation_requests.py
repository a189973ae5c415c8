"""What the engines check themselves, without an engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.generation.quiet import environment
from components.shared.generation.requests import check_same_prompt

ROOT = Path(__file__).parents[2]


def test_another_prompt_than_the_trainers_is_named_with_its_first_difference() -> None:
    check_same_prompt("q1", [1, 2, 3], (1, 2, 3))
    with pytest.raises(RuntimeError, match=r"prompt q1: .* position 1: \[9, 3\] against \[2, 3\]"):
        check_same_prompt("q1", [1, 9, 3], (1, 2, 3))
    with pytest.raises(RuntimeError, match="saw 2 tokens, the trainer would see 3.* position 2"):
        check_same_prompt("q1", [1, 2], (1, 2, 3))
    with pytest.raises(RuntimeError, match="saw 0 tokens"):
        check_same_prompt("q1", None, (1,))


def test_output_of_every_kind_is_captured_and_at_hand() -> None:
    program = """
import os, sys
from components.shared.generation.quiet import captured_output
with captured_output() as tail:
    print("from Python")
    os.write(2, b"from C\\n")
    os.system("echo from a child")
    seen = tail()
print(sorted(seen.splitlines()))
"""
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (child.stdout, child.stderr) == ("['from C', 'from Python', 'from a child']\n", "")


def test_environment_keeps_what_the_user_set_and_undoes_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPVIDEO_TEST_SET", "user")
    monkeypatch.delenv("DEEPVIDEO_TEST_NEW", raising=False)
    before = dict(os.environ)
    with environment({"DEEPVIDEO_TEST_SET": "ours", "DEEPVIDEO_TEST_NEW": "ours"}):
        assert (os.environ["DEEPVIDEO_TEST_SET"], os.environ["DEEPVIDEO_TEST_NEW"]) == ("user", "ours")
        os.environ["LD_PRELOAD"] = "library.so"
        os.environ["DEEPVIDEO_TEST_SET"] = "changed"
    assert dict(os.environ) == before
