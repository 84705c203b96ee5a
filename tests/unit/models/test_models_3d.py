"""The 3D family: stated sizes counted, any input size, each switch, and the bugs that are kept."""

from __future__ import annotations

import math

import pytest
import torch

from brainseg_utils.errors import SettingError
from brainseg_utils.models import registry
from brainseg_utils.models.gan_r1 import DiscriminatorR1, GeneratorR1
from brainseg_utils.models.padding import crop_heads, pad_to_multiple
from brainseg_utils.models.registry import NETWORKS, build, count_by_part, count_parameters, on_paper
from brainseg_utils.models.resunet3d import Shuffle, Unshuffle

SMALL = {
    "fcnn3d": {"width": 4},
    "unet3d_r1": {"width": 2},
    "unet3d": {"width": 2, "depth": 3},
    "residual_unet3d": {"width": 2, "deep_supervision": True},
    "monai_unet": {"channels": (2, 4, 4, 4)},
    "segresnet": {"size": (16, 16, 16)},
    "resunet3d": {"widths": (4, 4, 4, 8)},
}


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("fcnn3d", {}, 9_541),
        ("unet3d_r1", {}, 901_477),
        ("monai_unet", {"in_channels": 1}, 4_809_920),
        ("monai_unet", {"in_channels": 3}, 4_811_648),
        ("monai_unet", {}, 4_812_512),
        ("monai_unet", {"in_channels": 3, "residual_units": 0}, 1_982_555),
        ("swin_unetr", {}, 62_191_941),
        ("swin_unetr", {"v2": True}, 72_767_301),
        ("swin_unetr", {"feature_size": 36}, 35_076_477),
        ("swin_unetr", {"feature_size": 24}, 15_705_621),
        ("swin_unetr", {"feature_size": 12}, 4_079_373),
    ],
)
def test_stated_sizes_are_counted(name, options, parameters):
    network = on_paper(name, **options)
    assert count_parameters(network) == parameters == sum(count_by_part(network).values())
    assert options or NETWORKS[name].parameters == parameters


def test_stated_sizes_of_the_gan_are_counted():
    assert (count_parameters(GeneratorR1()), count_parameters(DiscriminatorR1())) == (451_265, 233_473)
    scan, mask = torch.zeros(1, 4, 13, 12, 11), GeneratorR1(width=2)(torch.zeros(1, 4, 13, 12, 11))
    assert mask.shape == (1, 1, 13, 12, 11)
    assert DiscriminatorR1(width=2)(torch.cat([scan, mask], dim=1)).shape == (1, 1, 4, 3, 3)


def test_the_course_network_is_small_enough_for_ten_megabytes_in_fp16():
    for classes in (3, 4, 5):
        parameters = count_parameters(on_paper("resunet3d", out_channels=classes))
        assert parameters < 5_000_000
        assert 2 * parameters < 10_000_000 - 200_000  # room for the file's header


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("size", [(16, 16, 16), (19, 22, 17)])
def test_any_size_goes_in_and_comes_out(name, size):
    network = build(name, in_channels=2, out_channels=4, **SMALL[name]).eval()
    with torch.no_grad():
        logits = network(torch.randn(1, 2, *size))
    assert logits.shape == (1, 4, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_parameter_is_trained(name):
    torch.manual_seed(0)
    network = build(name, **SMALL[name]).train()
    outputs = network(torch.randn(2, 4, 16, 16, 16))
    heads = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    (sum(head.square().mean() for head in heads) + registry.penalty(network)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_padding_repeats_the_last_plane_and_is_cut_off_again():
    image = torch.arange(2 * 3 * 5.0).reshape(1, 1, 2, 3, 5)
    padded = pad_to_multiple(image, 4)
    assert padded.shape == (1, 1, 4, 4, 8)
    assert torch.equal(padded[..., :2, :3, 7], image[..., 4])
    assert pad_to_multiple(padded, 4) is padded
    full, half = crop_heads([padded, padded[..., ::2, ::2, ::2]], (2, 3, 5), (1, 2))
    assert torch.equal(full, image)
    assert half.shape == (1, 1, 1, 2, 3)


@pytest.mark.parametrize("name", ["fcnn3d", "unet3d_r1"])
def test_softmax_inside_bounds_the_loss_from_below(name):
    """R1's mistake: of five classes none can have more than e / (e + 4) after the second softmax."""
    torch.manual_seed(0)
    stated = build(name, softmax_inside=True, **SMALL[name])
    mended = build(name, **SMALL[name])
    mended.load_state_dict(stated.state_dict())
    image = torch.randn(1, 4, 8, 8, 8)
    assert torch.allclose(stated(image), mended(image).softmax(dim=1))
    with torch.no_grad():  # as sure as can be of class 0
        for network in (stated, mended):
            last = network.up if name == "fcnn3d" else network.up1
            last.bias.copy_(torch.tensor([100.0, 0, 0, 0, 0]))
    truth = torch.zeros(1, 8, 8, 8, dtype=torch.long)
    lowest = -math.log(math.e / (math.e + 4))
    with torch.no_grad():
        losses = [float(torch.nn.functional.cross_entropy(network(image), truth)) for network in (stated, mended)]
    assert losses[0] == pytest.approx(lowest, abs=1e-4)
    assert losses[1] < 1e-4


def test_r4s_crop_does_not_go_through_monais_unet_unless_padded():
    as_stated, mended = (build("monai_unet", channels=(2, 2, 2, 2, 2), pad=pad).eval() for pad in (False, True))
    slab = torch.zeros(1, 4, 229, 16, 16)
    with pytest.raises(RuntimeError, match="size"):
        as_stated(slab)
    assert mended(slab).shape == (1, 3, 229, 16, 16)


def test_the_checkpoint_of_r4_does_not_fit_its_loader():
    trained, rebuilt = (build("monai_unet", channels=(2, 4, 4), residual_units=units) for units in (2, 0))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        rebuilt.load_state_dict(trained.state_dict())


@pytest.mark.parametrize(
    "options",
    [
        {"stages": 5},
        {"stages": 6},
        {"convolutions": 3},
        {"convolutions": 4},
        {"kernel": 5},
        {"norm": "instance"},
        {"skip": "none"},
        {"skip": "sum"},
        {"skip": "attention"},
        {"block": "plain"},
        {"block": "dense"},
        {"decoder_block": "plain"},
    ],
    ids=lambda options: "-".join(f"{k}-{v}" for k, v in options.items()),
)
def test_each_switch_changes_the_network_and_leaves_the_shape(options):
    changed, default = on_paper("residual_unet3d", width=4, **options), on_paper("residual_unet3d", width=4)
    image = torch.zeros(1, 4, 33, 40, 20, device="meta")
    assert changed(image).shape == default(image).shape == (1, 5, 33, 40, 20)
    same_size = count_parameters(changed) == count_parameters(default)
    assert same_size == (options == {"norm": "instance"})


@pytest.mark.parametrize("skip", ["none", "sum", "concatenation", "attention"])
def test_what_crosses_the_u_is_what_the_switch_says(skip):
    """Features of the first block set to zero where they cross: without a skip nothing changes."""
    torch.manual_seed(0)
    network = build("residual_unet3d", width=4, skip=skip).eval()
    image = torch.rand(1, 4, 16, 16, 16)
    meet = network._meet
    with torch.no_grad():
        before = network(image)
        network._meet = lambda x, across, scale: meet(x, across * (scale != 0), scale)
        after = network(image)
    assert torch.equal(before, after) == (skip == "none")


def test_an_attention_gate_passes_a_share_of_the_skip():
    torch.manual_seed(0)
    network = build("residual_unet3d", width=4, skip="attention")
    gate, skip, below = network.gates[0], torch.randn(1, 4, 4, 4, 4), torch.randn(1, 4, 4, 4, 4)
    share = gate.share(skip, below)
    assert share.shape == (1, 1, 4, 4, 4)
    assert 0 < float(share.detach().min()) < float(share.detach().max()) < 1
    assert torch.allclose(gate(skip, below), skip * share)


def test_a_residual_block_that_has_learnt_nothing_passes_its_input():
    block = build("residual_unet3d", width=4).down[0].eval()
    same = type(block)(4, 4, convolutions=2, kernel=3, norm="batch").eval()
    torch.nn.init.zeros_(same.layers[-1][1].weight)
    x = torch.randn(1, 4, 4, 4, 4)
    assert torch.equal(same(x), x)


def test_deep_supervision_answers_at_three_scales_in_training_only():
    for name, scales in (("residual_unet3d", (1, 2, 4)), ("resunet3d", (1, 4, 8))):
        network = build(name, out_channels=3, **SMALL[name])
        image = torch.randn(2, 4, 17, 16, 24)
        sizes = [tuple(head.shape[2:]) for head in network.train()(image)]
        assert sizes == [tuple(math.ceil(n / scale) for n in (17, 16, 24)) for scale in scales]
        assert network.eval()(image).shape == (2, 3, 17, 16, 24)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("residual_unet3d", {"skip": "sums"}, "did you mean 'sum'"),
        ("residual_unet3d", {"block": "residuals"}, "did you mean 'residual'"),
        ("residual_unet3d", {"norm": "layer"}, "batch, instance"),
        ("residual_unet3d", {"stages": 3}, "one of 4, 5, 6"),
        ("residual_unet3d", {"kernel": 7}, "one of 3, 5"),
        ("unet3d", {"depth": 0}, "1 or more"),
        ("segresnet", {"width": 12}, "multiple of 8"),
        ("segresnet", {"size": (60, 64, 64)}, "three multiples of 16"),
        ("resunet3d", {"widths": (8,)}, "two widths or more"),
        ("resunet3d", {"norm": "btach"}, "did you mean 'batch'"),
        ("swin_unetr", {"feature_size": 20}, "multiple of 12"),
    ],
)
def test_a_network_that_cannot_be_is_refused(name, options, message):
    with pytest.raises(SettingError, match=message):
        build(name, **options)


def test_the_vae_branch_adds_a_penalty_once_and_only_in_training():
    torch.manual_seed(0)
    network = build("segresnet", size=(16, 16, 16)).train()
    image = torch.randn(1, 4, 16, 16, 16)
    network(image)
    first = registry.penalty(network)
    assert first > 0 and first.requires_grad
    assert registry.penalty(network) == 0.0
    with pytest.raises(SettingError, match=r"set the network's option size to data\.size"):
        network(torch.randn(1, 4, 16, 16, 32))
    network.eval()(torch.randn(1, 4, 10, 16, 32))
    assert registry.penalty(network) == 0.0
    without = build("segresnet", vae=False)
    without(torch.randn(1, 4, 10, 16, 32))
    assert registry.penalty(without) == 0.0 == registry.penalty(build("fcnn3d", width=2))


def test_the_vae_branch_pulls_the_code_to_the_scan():
    """The penalty alone, made small, redraws a scan better than at the start."""
    torch.manual_seed(0)
    network = build("segresnet", size=(16, 16, 16), dropout=0.0, vae_weight=1.0).train()
    image = torch.randn(1, 4, 1, 1, 1).expand(1, 4, 16, 16, 16)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    values = []
    for _ in range(8):
        network(image)
        value = registry.penalty(network)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.5 * values[0]


def test_cells_become_channels_and_voxels_again():
    voxels = torch.randn(2, 3, 4, 6, 8)
    cells = Unshuffle()(voxels)
    assert cells.shape == (2, 24, 2, 3, 4)
    assert torch.equal(cells[0, 8:16, 1, 2, 3], voxels[0, 1, 2:4, 4:6, 6:8].flatten())
    assert torch.equal(Shuffle()(cells), voxels)


def test_the_course_network_starts_near_the_share_of_tumour():
    torch.manual_seed(0)
    for refine in (0, 4):
        network = build("resunet3d", refine=refine).eval()
        with torch.no_grad():
            probability = torch.sigmoid(network(torch.randn(1, 4, 24, 20, 16)))
        assert 0.01 < float(probability.mean()) < 0.2


def test_the_course_network_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    network = build("resunet3d", widths=(4, 4, 8), dropout=0.0).train()
    images = torch.randn(2, 4, 16, 16, 16)
    with torch.no_grad():
        together, alone = network(images)[0], network(images[:1])[0]
    assert torch.allclose(together[:1], alone, atol=1e-5)
