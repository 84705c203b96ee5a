"""One pass where memory allows, windows where not, and the same answer from both."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brainseg_utils.errors import BrainsegError
from brainseg_utils.inference import windows
from brainseg_utils.inference.windows import Runner, bytes_per_voxel, window
from brainseg_utils.training import memory

CPU = torch.device("cpu")


def pointwise(channels=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(2, channels, 1), nn.Tanh(), nn.Conv3d(channels, 3, 1))


def test_the_tensors_that_live_together_count():
    chain = nn.Sequential(nn.Conv3d(1, 1, 1), *[nn.ReLU() for _ in range(10)])
    assert bytes_per_voxel(chain, chain, 1) == pytest.approx(3 * 4, abs=0.1)  # the image, and two of the chain in turn
    wide = nn.Conv3d(2, 8, 3, padding=1)
    assert bytes_per_voxel(wide, wide, 2) == pytest.approx(10 * 4, abs=0.1)


def test_windows_get_smaller_until_they_fit():
    assert window(10, (144, 176, 128), 144 * 176 * 128 * 10 / windows.SHARE + 1) == (144, 176, 128)
    assert window(10, (144, 176, 128), 144 * 176 * 128 * 10 / windows.SHARE - 1) == (144, 96, 128)
    assert window(10, (144, 176, 30), 80 * 64 * 30 * 10 / windows.SHARE + 1) == (80, 64, 30)
    with pytest.raises(BrainsegError, match="64x64x64 voxels needs"):
        window(10, (144, 176, 128), 1000)


def little_memory(monkeypatch, network, voxels):
    """Lets no more than so many voxels fit."""
    free = bytes_per_voxel(network, network, 2) * voxels / windows.SHARE
    monkeypatch.setattr(windows, "SMALLEST", 16)
    monkeypatch.setattr(memory, "available", lambda device: free)


def test_windows_and_one_pass_agree(monkeypatch):
    network = pointwise()
    image = torch.randn(2, 70, 40, 33)
    seen = []
    network.register_forward_hook(lambda module, given, out: seen.append(tuple(given[0].shape[2:])))
    runner = Runner(network, CPU, False)
    whole = runner(image)
    assert whole.shape == (3, 70, 40, 33)
    assert seen == [(70, 40, 34)]  # widened by background where a network could not halve it
    with torch.no_grad():
        assert torch.allclose(whole, network(image[None])[0], atol=1e-6)
    little_memory(monkeypatch, network, 33 * 33 * 33)
    seen.clear()
    assert torch.allclose(runner(image), whole, atol=1e-5)
    assert seen[0] == (64, 64, 64)  # where memory is measured
    assert len(seen) > 8
    assert max(map(max, seen[1:])) <= 48


def test_a_network_that_sees_its_neighbours_is_blended(monkeypatch):
    torch.manual_seed(0)
    network = nn.Conv3d(2, 1, 5, padding=2)
    image = torch.randn(2, 64, 32, 32)
    whole = Runner(network, CPU, False)(image)
    little_memory(monkeypatch, network, 33 * 33 * 33)
    blended = Runner(network, CPU, False)(image)
    error = (blended - whole).abs()
    assert 0 < error.mean() < 0.05 * whole.std()  # the borders of windows, which count for little, differ


def test_bf16_is_near():
    network = pointwise()
    image = torch.randn(2, 16, 16, 16)
    a, b = (Runner(network, CPU, half)(image) for half in (False, True))
    assert b.dtype == torch.float32
    assert 0 < (a - b).abs().max() < 0.05


def test_heads_for_training_are_left_out():
    class Deep(nn.Conv3d):
        def forward(self, image):
            return [image * 2, image]

    image = torch.randn(1, 16, 16, 16)
    assert torch.equal(Runner(Deep(1, 1, 1), CPU, False)(image), image * 2)
