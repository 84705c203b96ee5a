"""Watching a process tree: its memory, its time limit, its end."""

from __future__ import annotations

import sys

import psutil

from brainseg_utils.course.measure import watch

CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_children_are_measured_and_the_exit_code_is_kept(tmp_path):
    body = "b = bytearray(200 * 2**20)\nfor _ in range(60): sum(b[:: 2**9])\nprint('said'); raise SystemExit(3)"
    command = [sys.executable, "-c", CHILD + "; sys.exit(5)", body]
    cost = watch(command, tmp_path / "log")
    assert cost.code == 5 and not cost.timed_out and cost.seconds > 0
    assert 200 * 2**20 < cost.peak_bytes < 300 * 2**20
    assert (tmp_path / "log").read_text().strip() == "said"


def test_the_limit_ends_the_whole_tree(tmp_path):
    ticks = []
    body = "import os; print(os.getpid(), flush=True)\nwhile True: pass"
    command = [sys.executable, "-c", CHILD, body]
    cost = watch(command, tmp_path / "log", limit_s=4, tick=lambda seconds, peak: ticks.append(seconds))
    assert cost.timed_out and ticks == sorted(ticks) and len(ticks) > 3
    assert not psutil.pid_exists(int((tmp_path / "log").read_text().split()[0]))
