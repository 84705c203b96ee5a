"""R2's networks: stated sizes counted, shapes, attention, and the bug that makes SETR's mask too small."""

from __future__ import annotations

import pytest
import torch

from brainseg_utils.errors import SettingError
from brainseg_utils.models.registry import NETWORKS, build, check, count_parameters
from brainseg_utils.models.setr import R2_STAGES, SETR

SMALL = {"dim": 32, "depth": 2, "heads": 4, "mlp": 48, "decoder": 8}


def test_stated_sizes_are_counted():
    with torch.device("meta"):
        assert count_parameters(build("unet2d")) == 1_862_849 == NETWORKS["unet2d"].parameters
        assert count_parameters(build("setr", cuts=4, stages=R2_STAGES)) == 72_198_401
        assert count_parameters(build("setr", cuts=8, stages=R2_STAGES)) == 69_888_257
        assert count_parameters(build("resunet2d")) == 2_990_934


@pytest.mark.parametrize("cuts", [2, 4, 8, 16, 32])
def test_mended_setr_returns_the_size_of_its_input_for_any_cuts(cuts):
    network = SETR(cuts=cuts, **SMALL)
    assert network(torch.zeros(2, 3, 128, 128)).shape == (2, 1, 128, 128)


def test_setr_as_stated_fits_only_eight_cuts():
    sizes = {cuts: SETR(cuts=cuts, stages=R2_STAGES, **SMALL)(torch.zeros(1, 3, 128, 128)).shape[-1] for cuts in (4, 8)}
    assert sizes == {4: 64, 8: 128}


def test_setr_cuts_the_image_into_its_patches_row_by_row():
    network = SETR(in_channels=1, size=8, cuts=2, dim=16, depth=1, heads=1, mlp=4, decoder=2)
    with torch.no_grad():
        network.embed.weight.copy_(torch.eye(16))
        network.embed.bias.zero_()
        network.positions.zero_()
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    tokens = network.tokens(image)
    assert torch.equal(tokens[0, 1], image[0, 0, :4, 4:].flatten())
    assert torch.equal(tokens[0, 2], image[0, 0, 4:, :4].flatten())


def test_attention_maps_are_distributions_and_what_the_layer_uses():
    network = SETR(size=32, cuts=4, **SMALL).eval()
    image = torch.randn(3, 3, 32, 32)
    maps = network.attention_maps(image)
    assert maps.shape == (2, 3, 4, 16, 16)
    assert torch.allclose(maps.sum(-1), torch.ones(2, 3, 4, 16), atol=1e-5)
    layer, x = network.layers[0], network.tokens(image)
    value = layer.attend.split(layer.norm1(x))[2]
    by_hand = layer.attend.out((maps[0] @ value).transpose(1, 2).flatten(2))
    assert torch.allclose(by_hand, layer.attend(layer.norm1(x)), atol=1e-5)


def test_attention_never_mixes_the_images_of_a_batch():
    network = SETR(size=32, cuts=4, **SMALL).eval()
    image = torch.randn(4, 3, 32, 32)
    together = network(image)
    alone = torch.cat([network(one[None]) for one in image])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_setr_that_cannot_be_is_refused():
    with pytest.raises(SettingError, match="divides the size"):
        SETR(cuts=3, **SMALL)
    with pytest.raises(SettingError, match="power of two"):
        SETR(size=96, cuts=4, **SMALL)
    with pytest.raises(SettingError, match="heads"):
        SETR(**{**SMALL, "heads": 5})


def test_an_unknown_network_or_option_is_answered_with_the_nearest():
    with pytest.raises(SettingError, match="did you mean 'unet2d'"):
        build("unet2")
    with pytest.raises(SettingError, match=r"network unet2d: unknown option 'widht'.*did you mean 'width'"):
        check("unet2d", {"widht": 8})


def test_unet_gives_each_pixel_a_logit_and_every_parameter_a_gradient():
    network = build("unet2d", width=4, out_channels=2)
    logits = network(torch.randn(2, 3, 16, 24))
    assert logits.shape == (2, 2, 16, 24)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_course_network_has_auxiliary_heads_in_training_only():
    network = build("resunet2d", in_channels=3, widths=(4, 8, 8, 8, 8))
    image = torch.randn(2, 3, 64, 64)
    heads = network(image)
    assert [tuple(h.shape) for h in heads] == [(2, 1, 64, 64), (2, 1, 16, 16), (2, 1, 8, 8)]
    sum(h.square().mean() for h in heads).backward()
    assert all(p.grad is not None for p in network.parameters())
    assert network.eval()(image).shape == (2, 1, 64, 64)


def test_the_course_network_starts_near_the_share_of_tumour():
    torch.manual_seed(0)
    probability = torch.sigmoid(build("resunet2d", in_channels=3).eval()(torch.randn(1, 3, 64, 64)))
    assert 0.01 < float(probability.detach().mean()) < 0.2
