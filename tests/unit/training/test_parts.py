"""The loop's parts: which samples a step sees, how seconds become steps, what memory is forecast, what is kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from brainseg_utils.errors import BrainsegError, SettingError
from brainseg_utils.models.registry import build, count_parameters
from brainseg_utils.training import batches, budget, device, memory
from brainseg_utils.training.keeping import State, judge
from brainseg_utils.training.recipe import Engine
from brainseg_utils.training.report import duration, picture

MIB = 2**20


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 50))
def test_devices_and_parts_share_a_batch_without_gap_or_overlap(parts, devices, size, step):
    batch = parts * devices * size
    drawn = [
        n for d in range(devices) for p in range(parts) for n in batches.numbers(step, p, batch, parts, d, devices)
    ]
    assert sorted(drawn) == list(range(step * batch, (step + 1) * batch))


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(SettingError, match=r"budget.batch = 6 on 2 devices in 2 parts; expected a multiple of 4"):
        batches.part_size(6, 2, 2)


def test_worker_processes_give_the_same_batches(blobs):
    alone, with_workers = (
        [part["image"] for parts in batches.steps(blobs(), 2, 5, 4, 2, workers=workers) for part in parts]
        for workers in (0, 1)
    )
    assert len(alone) == 6
    assert all(torch.equal(a, b) for a, b in zip(alone, with_workers, strict=True))


@given(st.floats(1, 1e5), st.floats(1e-3, 10), st.floats(0, 100), st.integers(1, 1000))
def test_the_steps_of_a_time_budget_fit_into_it(seconds, step, validation, epoch_steps):
    steps = budget.convert(seconds, step, validation, epoch_steps)
    needed = steps * step + steps / epoch_steps * validation
    assert steps == 1 or needed <= seconds * (1 + 1e-9)
    assert needed + 2 * (step + validation / epoch_steps) >= min(seconds, needed + step)


def test_weights_gradients_and_optimiser_are_counted_to_the_byte():
    network = build("unet2d", width=8)
    expected = memory.forecast(network, (2, 3, 32, 32), "adam", ema=True)
    size = 4 * count_parameters(network)
    assert (expected.weights, expected.gradients, expected.optimiser) == (2 * size, size, 2 * size)
    assert memory.forecast(network, (2, 3, 32, 32), "sgd").optimiser == size


def test_activations_grow_with_the_batch_and_halve_in_bf16():
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    one, four = (memory.forecast(network, (n, 1, 64, 64)).activations for n in (1, 4))
    kept = 4 * 64 * 64 * (1 + 8) * memory.BACKWARD  # the input, and what the ReLU returns, kept once
    assert one == pytest.approx(kept)
    assert four == pytest.approx(4 * one)
    assert memory.forecast(network, (1, 1, 64, 64), half=True).activations == pytest.approx(one / 2, abs=1)


def test_a_stated_setr_is_forecast_without_being_computed():
    with torch.device("meta"):
        network = build("setr", cuts=8, stages=4)
    expected = memory.forecast(network, (16, 3, 128, 128), "adam")
    assert expected.total > 16 * count_parameters(network)
    assert expected.outputs == ((16, 1, 128, 128),)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_no_memory_left_names_the_setting(error):
    message = r"cpu: out of memory; set engine.accumulate = 2"
    with pytest.raises(BrainsegError, match=message), memory.explained(torch.device("cpu"), 8, 1):
        raise error


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), memory.explained(torch.device("cpu"), 8, 1):
        raise RuntimeError("shapes do not match")


def test_a_loss_that_is_no_number_is_not_the_best():
    state = State()
    assert judge(state, Engine(keep=("best_loss",), patience=1), 1, 0.5, float("nan")) == []
    assert state.stopped


def test_patience_counts_validations_since_the_last_better_one():
    state, engine = State(), Engine(keep=("best_loss",), patience=3)
    stops = []
    for loss in (0.5, 0.6, 0.6, 0.4, 0.4, 0.4, 0.4):
        judge(state, engine, 1, 0.9, loss)
        stops.append(state.stopped)
    assert stops == [False] * 6 + [True]


def test_precision_follows_the_device_unless_insisted():
    cpu = torch.device("cpu")
    assert device.uses_bf16("auto", cpu) == device.has_bf16(cpu)
    assert device.uses_bf16("bf16", cpu)
    assert not device.uses_bf16("fp32", cpu)


def test_a_grid_two_deep_is_found_wherever_it_is():
    wide, point = torch.nn.Conv3d(1, 1, 3, padding=1), torch.nn.Conv3d(1, 1, 1)
    assert device.works_two_deep(wide, (1, 1, 2, 8, 8))
    assert not device.works_two_deep(wide, (1, 1, 8, 2, 2))
    assert not device.works_two_deep(point, (1, 1, 2, 8, 8))
    assert device.works_two_deep(torch.nn.Sequential(torch.nn.MaxPool3d(4), wide), (1, 1, 8, 16, 16))


def test_durations_in_words():
    assert [duration(s) for s in (0.4, 59.6, 61, 3599, 3601, 90000)] == [
        "0 s", "1 min 0 s", "1 min 1 s", "59 min 59 s", "1 h 0 min", "25 h 0 min",
    ]  # fmt: skip


def test_the_picture_outlines_truth_and_prediction():
    image = torch.zeros(6, 3, 20, 20)
    label = torch.zeros(6, 1, 20, 20)
    label[2, :, 5:15, 5:15] = 1
    drawn = picture({"image": image, "label": label}, torch.roll(label, 2, 3))
    assert drawn.shape == (3, 20, 80)
    assert drawn[:, 5, 6].tolist() == [1, 1, 1]
    assert drawn[:, 5, 16].tolist() == pytest.approx([0.902, 0.624, 0.0])
    assert drawn[:, 10, 10].tolist() == [0, 0, 0]


def test_the_picture_of_a_volume_is_its_middle_slice():
    label = torch.zeros(2, 1, 8, 8, 5)
    label[..., 2] = 1
    assert picture({"image": label, "label": label}, label).shape == (3, 8, 16)
