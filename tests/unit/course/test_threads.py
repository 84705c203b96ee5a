"""Threads for a live training: one unless more are clearly quicker."""

import pytest
import torch

from brainseg_utils.course import threads


class Machine:
    """A clock that goes on by what a step costs with the threads that are set."""

    def __init__(self, costs):
        self.costs, self.now, self.number = costs, 0.0, None

    def step(self):
        self.now += self.costs[self.number]

    def set(self, number):
        self.number = number


@pytest.mark.parametrize(
    ("costs", "allowed", "chosen"),
    [
        ({1: 1.0, 2: 0.6}, 2, 2),  # quiet
        ({1: 1.0, 2: 9.0}, 2, 1),  # something else runs
        ({1: 1.0, 2: 0.95}, 2, 1),  # not worth it
        ({1: 1.0}, 1, 1),  # nothing to choose
        ({1: 1.0, 2: 0.6, 4: 0.4}, 7, 4),
    ],
)
def test_more_threads_only_where_they_help(monkeypatch, costs, allowed, chosen):
    machine = Machine(costs)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: machine.now)
    assert threads.choose(allowed, machine.step, machine.set) == chosen == machine.number


def test_torch_is_left_with_what_was_chosen_and_its_random_numbers():
    before = torch.get_num_threads()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    try:
        assert threads.set_threads(1) == torch.get_num_threads() == 1
        assert torch.equal(torch.rand(1), expected)
    finally:
        torch.set_num_threads(before)
