"""Training loops side by side: each in a process of its own, on one thread, in turns step by step.

How memory is kept is a matter of the whole process, so that contestants must not share one. Seconds are those of CPU,
which other programs on the machine change less than the clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One contestant is so many times ahead of another.

    Attributes:
        ahead: the contestant.
        plain: the other one.
        needed: times.
        samples: in a step.
        unit: what a sample is.
    """

    ahead: str
    plain: str
    needed: float
    samples: int
    unit: str

    def told(self, times: Mapping[str, Sequence[float]], has_bf16: bool) -> bool:
        """Prints the speeds and their ratios; whether the claim holds."""
        middle = {name: statistics.median(values) for name, values in times.items()}
        for name, seconds in middle.items():
            spread = " to ".join(f"{self.samples / t:.2f}" for t in (max(times[name]), min(times[name])))
            speed = f"{self.samples / seconds:6.2f} {self.unit} a second of CPU ({spread})"
            print(f"{name:20s} {speed}, {middle[self.plain] / seconds:.2f} x")
        ratio = middle[self.plain] / middle[self.ahead]
        print(f"ratio {ratio:.2f} on one thread; bf16 on this CPU: {'yes' if has_bf16 else 'no'}")
        return ratio >= self.needed


def compete(
    script: str, description: str, makers: Mapping[str, Callable[[], Callable[[], object]]], claim: Claim
) -> None:
    """The command line of a benchmark of this kind; exits with 1 if the claim does not hold where it should.

    Args:
        script: its file.
        description: its docstring.
        makers: contestants by name; each makes a function that takes one step.
        claim: what is printed and needed.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contestant", choices=sorted(makers), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contestant:
        _serve(makers[given.contestant])
        return
    has, times = _race(script, list(makers), given.rounds)
    sys.exit(has and not claim.told(times, has))


def _serve(maker: Callable[[], Callable[[], object]]) -> None:
    """One process: a step for every line that comes in, its seconds of CPU as the line that goes out."""
    import torch

    from brainseg_utils.training import device

    torch.set_num_threads(1)
    step = maker()
    step()
    print(device.has_bf16(torch.device("cpu")), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        step()
        print(time.process_time() - start, flush=True)


def _race(script: str, names: Sequence[str], rounds: int) -> tuple[bool, dict[str, list[float]]]:
    """Whether this CPU has bf16, and every contestant's seconds a step."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = {
        name: subprocess.Popen(
            [sys.executable, script, "--contestant", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=alone,
        )
        for name in names
    }
    has = {_line(process) for process in started.values()} == {"True"}  # all are warm now
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[:: -1 if turn % 2 else 1]:
            process = started[name]
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
            times[name].append(float(_line(process)))
    for process in started.values():
        process.communicate()
    return has, times


def _line(process: subprocess.Popen) -> str:
    assert process.stdout
    line = process.stdout.readline().strip()
    if not line:
        sys.exit(f"a contestant ended early, exit code {process.wait()}")
    return line
