"""Swin-UNETR: the hand-written attention against MONAI's, with the same weights; attention maps; sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import swin_unetr as monais

from brainseg_utils.models import window_attention as by_hand
from brainseg_utils.models.registry import build, on_paper


@settings(max_examples=20, deadline=None)
@given(
    counts=st.tuples(*[st.integers(1, 3)] * 3),
    window=st.tuples(*[st.integers(1, 4)] * 3),
    channels=st.integers(1, 3),
    batch=st.integers(1, 2),
)
def test_cutting_and_joining_windows_is_a_round_trip_and_monais(counts, window, channels, batch):
    size = tuple(n * w for n, w in zip(counts, window, strict=True))
    x = torch.randn(batch, *size, channels)
    windows = by_hand.cut(x, window)
    assert torch.equal(windows, monais.window_partition(x, window))
    assert torch.equal(by_hand.join(windows, window, size), x)
    assert torch.equal(monais.window_reverse(windows, window, (batch, *size)), x)


@pytest.mark.parametrize(
    ("size", "window", "shift"),
    [
        ((8, 8, 8), (4, 4, 4), (2, 2, 2)),
        ((14, 7, 21), (7, 7, 7), (3, 0, 3)),
        ((6, 3, 2), (3, 3, 2), (1, 0, 0)),
    ],
)
def test_the_shift_mask_is_monais(size, window, shift):
    mask = by_hand.shift_mask(size, window, shift)
    assert torch.equal(mask, monais.compute_mask(list(size), window, shift, torch.device("cpu")))
    assert torch.equal(mask, mask.transpose(1, 2))
    assert (mask.diagonal(dim1=1, dim2=2) == 0).all()


def test_the_mask_keeps_the_two_ends_of_the_volume_apart():
    """Along one axis of 4 tokens, windows of 2 rolled by 1: 1 and 2 share a window, 3 and 0 share one and must not."""
    mask = by_hand.shift_mask((4, 1, 1), (2, 1, 1), (1, 0, 0))
    assert torch.equal(mask[0], torch.zeros(2, 2))
    assert torch.equal(mask[1], torch.tensor([[0.0, by_hand.APART], [by_hand.APART, 0.0]]))


@pytest.mark.parametrize("window", [(7, 7, 7), (2, 3, 4)])
def test_the_relative_position_index_is_monais(window):
    theirs = monais.WindowAttention(6, num_heads=2, window_size=window).relative_position_index
    assert torch.equal(by_hand.position_index(window), theirs)


def test_pairs_that_lie_alike_share_a_bias():
    index = by_hand.position_index((2, 2, 2))
    assert index.unique().numel() == 27
    assert index[0, 1] == index[2, 3] == index[4, 5]  # one step along the last axis
    assert index[0, 1] != index[1, 0]  # and back is another number


def test_the_attention_is_monais_with_the_same_weights():
    torch.manual_seed(0)
    theirs = monais.WindowAttention(12, num_heads=3, window_size=(4, 4, 4), qkv_bias=True)
    ours = by_hand.WindowAttention(12, heads=3, window=(4, 4, 4))
    ours.load_state_dict(theirs.state_dict())
    x, mask = torch.randn(2 * 8, 64, 12), by_hand.shift_mask((8, 8, 8), (4, 4, 4), (2, 2, 2))
    for m in (None, mask):
        assert torch.allclose(ours(x, m), theirs(x, m), atol=1e-5)
    weights = ours.weights(x, mask)
    assert torch.allclose(weights.sum(-1), torch.ones(16, 3, 64), atol=1e-5)
    apart = (mask != 0).expand(2, 8, 64, 64).reshape(16, 1, 64, 64).expand_as(weights)
    assert float(weights[apart].detach().max()) < 1e-30


@pytest.mark.parametrize("tokens", [64, 27])  # a whole window, and one that shrank to 3x3x3
def test_the_relative_position_bias_is_monais(tokens):
    torch.manual_seed(0)
    theirs = monais.WindowAttention(12, num_heads=3, window_size=(4, 4, 4), qkv_bias=True)
    torch.nn.init.normal_(theirs.relative_position_bias_table, std=3)  # at its usual .02 a wrong place hardly shows
    ours = by_hand.WindowAttention(12, heads=3, window=(4, 4, 4))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, tokens, 12)
    with torch.no_grad():
        expected = theirs(x, None)
        assert torch.allclose(ours(x), expected, atol=1e-5)
        ours.relative_position_bias_table.copy_(ours.relative_position_bias_table.roll(1, 0))
        assert not torch.allclose(ours(x), expected, atol=1e-2)


@pytest.mark.parametrize("size", [(8, 8, 8), (5, 9, 6), (4, 8, 3)])
@pytest.mark.parametrize("shift", [(0, 0, 0), (2, 2, 2)])
def test_the_block_is_monais_with_the_same_weights(size, shift):
    torch.manual_seed(0)
    window = (4, 4, 4)
    theirs = monais.SwinTransformerBlock(12, num_heads=3, window_size=window, shift_size=shift)
    ours = by_hand.SwinBlock(12, heads=3, window=window, shift=shift)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, *size, 12)
    fitted, moved = monais.get_window_size(size, window, shift)
    assert by_hand.fit(size, window, shift) == (list(fitted), list(moved))
    full = [s + -s % w for s, w in zip(size, fitted, strict=True)]
    with torch.no_grad():
        expected = theirs(x, monais.compute_mask(full, fitted, moved, x.device))
        assert ours(x).shape == expected.shape == x.shape
        assert torch.allclose(ours(x), expected, atol=1e-5)


def test_a_window_that_shrank_takes_biases_of_another_geometry():
    """MONAI's, kept: the first T tokens of the large window are not the small window."""
    large, small = by_hand.position_index((7, 7, 7))[:64, :64], by_hand.position_index((4, 4, 4))
    alike = {(int(a), int(b)) for a, b in zip(large.flatten(), small.flatten(), strict=True)}
    assert len(alike) > small.unique().numel()  # one relation of the small window has several biases of the large


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("swin_unetr", feature_size=12, depths=(2, 1, 1, 1), window=4).eval()


@pytest.fixture(scope="module")
def scan():
    return torch.randn(1, 4, 40, 64, 33, generator=torch.Generator().manual_seed(0))


def test_any_size_goes_in_and_comes_out(network, scan):
    with torch.no_grad():
        assert network(scan).shape == (1, 3, 40, 64, 33)


def test_the_attention_maps_are_those_that_the_network_uses(network, scan):
    seen = []
    blocks = network.network.swinViT.layers1[0].blocks
    hooks = [block.attn.register_forward_hook(lambda _m, i, o: seen.append((i[0], o))) for block in blocks]
    maps = network.attention_maps(scan)
    for hook in hooks:
        hook.remove()
    assert [(m.stage, m.block) for m in maps] == [(1, 0), (1, 1), (2, 0), (3, 0), (4, 0)]
    assert [m.size for m in maps] == [(32, 32, 32), (32, 32, 32), (16, 16, 16), (8, 8, 8), (4, 4, 4)]
    assert [m.shift for m in maps][:2] == [(0, 0, 0), (2, 2, 2)]
    for one, (tokens, result) in zip(maps[:2], seen, strict=True):
        with torch.no_grad():
            windows = by_hand.cut(one._rolled(), one.window)
            assert torch.equal(windows, tokens)
            gathered = one.weights() @ one.layer._split(windows)[2]
            assert torch.allclose(one.layer.proj(gathered.transpose(1, 2).flatten(2)), result, atol=1e-5)


def test_a_token_sees_its_own_window_and_nothing_else(network, scan):
    plain, shifted = network.attention_maps(scan)[:2]
    seen = plain.seen_from((5, 6, 7))
    assert seen.shape == (3, 32, 32, 32)
    assert torch.allclose(seen.sum((1, 2, 3)), torch.ones(3), atol=1e-5)
    assert torch.allclose(seen[:, 4:8, 4:8, 4:8].sum((1, 2, 3)), torch.ones(3), atol=1e-5)
    seen = shifted.seen_from((5, 6, 7))  # its windows begin at 2, 6, 10: 5 lies in 2 to 5, 6 and 7 in 6 to 9
    assert torch.allclose(seen[:, 2:6, 6:10, 6:10].sum((1, 2, 3)), torch.ones(3), atol=1e-5)
    corner = shifted.seen_from((0, 0, 0))  # rolled into a window with the other ends, and masked from them
    assert torch.allclose(corner[:, :2, :2, :2].sum((1, 2, 3)), torch.ones(3), atol=1e-5)


def test_attention_received_is_an_equal_share_on_average(network, scan):
    received = network.attention_maps(scan)[1].received()
    assert received.shape == (32, 32, 32)
    assert float(received.mean()) == pytest.approx(1, abs=1e-4)
    assert float(received.std()) > 0


def test_looking_leaves_the_network_as_it_was(scan):
    network = build("swin_unetr", feature_size=12, depths=(1, 1, 1, 1), window=2).train()
    network.attention_maps(scan)
    assert network.training
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_checkpointing_gives_the_same_gradients():
    image, gradients = torch.randn(1, 4, 32, 32, 32, generator=torch.Generator().manual_seed(1)), []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        network = build("swin_unetr", feature_size=12, depths=(1, 1, 1, 1), window=2, checkpoint=checkpoint).train()
        network.network.swinViT(image)[-1].square().mean().backward()
        gradients.append(network.network.swinViT.layers1[0].blocks[0].attn.qkv.weight.grad)
    assert torch.allclose(*gradients, atol=1e-7)


def test_version_two_convolves_before_each_stage():
    names = {name.split(".")[2] for name, _ in on_paper("swin_unetr", v2=True).named_parameters() if "layers" in name}
    assert {"layers1c", "layers2c", "layers3c", "layers4c"} <= names
