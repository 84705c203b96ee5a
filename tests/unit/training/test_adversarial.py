"""A generator against a discriminator: it learns tissue by label and contrast, stays stable, and resumes exactly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from monai.losses import PatchAdversarialLoss

from brainseg_utils.errors import BrainsegError, SettingError
from brainseg_utils.evaluation.realism import closed_gap
from brainseg_utils.models.painter import contrast_code, hole_of, one_hot
from brainseg_utils.training import adversarial, games, gan_recipe
from brainseg_utils.training.gan_run import GanRun, read_generator

sys.path.insert(0, str(Path(__file__).parent))
from tumours import CONTENT, Tumours, little

SEEDS = (0, 1, 2)


def fit(recipe, folder, samples=None, **options):
    """A finished run."""
    return adversarial.fit(recipe, samples or Tumours(), GanRun.begin(folder, recipe), **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The little recipe, trained with three seeds."""
    return [fit(little(seed=seed), tmp_path_factory.mktemp("runs") / str(seed)) for seed in SEEDS]


@pytest.fixture(scope="module")
def painter(runs):
    """The trained generator of the first seed, with its contrast codes."""
    recipe, weights, codes = read_generator(runs[0].path)
    network = gan_recipe.build(recipe.generator)
    network.load_state_dict(weights)
    return network.eval(), codes


@torch.no_grad()
def tissue_means(network, wrong=None):
    """Means (T, C) of the real tissues and of the painted ones, over tumours that were not trained on."""
    batch = Tumours().batch(range(1000, 1012))
    layers = one_hot(batch["label"])
    code = contrast_code(batch["image"], layers)
    shown = layers if wrong is None else layers[:, wrong]
    torch.manual_seed(0)
    made = network(batch["image"], hole_of(batch["label"]), shown, code)
    return [contrast_code(image, layers).mean(0) for image in (batch["image"], made)]


def test_painted_tissue_closes_at_least_half_of_the_gap_from_healthy(painter):
    real, made = tissue_means(painter[0])
    for tissue in range(3):
        for modality in range(4):
            if abs(real[tissue, modality]) > 0.5:  # healthy tissue is at 0
                assert closed_gap(float(real[tissue, modality]), float(made[tissue, modality]), 0.0) > 0.5


def test_with_labels_shuffled_the_painted_tissue_no_longer_matches(painter):
    real, made = tissue_means(painter[0])
    _, shuffled = tissue_means(painter[0], wrong=[2, 0, 1, 3])
    right, wrong = ((real - found)[:3].abs().mean() for found in (made, shuffled))
    assert wrong > 3 * right
    gaps = [
        closed_gap(float(r), float(m), 0.0)
        for r, m in zip(real[:3].ravel(), shuffled[:3].ravel(), strict=True)
        if abs(r) > 0.5
    ]
    assert min(gaps) < 0


def test_three_seeds_neither_diverge_nor_collapse(runs):
    for run in runs:
        history = run.history()
        assert history.notna().all().all() and history["reconstruction"].iloc[-1] < history["reconstruction"].iloc[0]
        assert history["accuracy"].iloc[len(history) // 2 :].mean() == pytest.approx(0.7, abs=0.2)
        assert history["variety"].iloc[-1] > 0.1
        assert history["g_loss"].abs().max() < 20


def test_the_run_keeps_recipe_codes_and_slow_weights(runs):
    recipe, weights, codes = read_generator(runs[1].path)
    assert recipe == runs[1].recipe == little(seed=1)
    assert len(codes) == 256 and torch.isnan(codes[:, 3]).all()  # RC is in no patch
    last = Tumours().batch([559])  # of 140 steps of 4; the codes of the first 304 made room
    known = contrast_code(last["image"], one_hot(last["label"]))[0]
    torch.testing.assert_close(codes[559 % 256, :3], known[:3], atol=1e-4, rtol=1e-4)
    assert set(weights) == set(gan_recipe.build(recipe.generator).state_dict())


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    class Stopped(Exception):
        pass

    def stop(row, generator, turn):
        if row["step"] == 4:
            raise Stopped

    recipe = little(budget__steps=8, budget__epoch_steps=2)
    whole = fit(recipe, tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(recipe, tmp_path / "parts", after_epoch=stop)
    resumed = adversarial.fit(recipe, Tumours(), GanRun.begin(tmp_path / "parts", recipe, resume=True))
    assert len(resumed.history()) == 4
    for name, tensor in read_generator(whole.path)[1].items():
        assert torch.equal(tensor, read_generator(resumed.path)[1][name])
    assert torch.equal(*(torch.nan_to_num(read_generator(run.path)[2]) for run in (whole, resumed)))


def test_a_batch_in_parts_has_the_gradients_of_the_whole(tmp_path):
    found = []
    for parts in (1, 2):
        loop = adversarial.GanLoop(little(engine__accumulate=parts), ZeroNoise(), GanRun(tmp_path / str(parts)))
        batch = loop.samples.batch(range(4))
        for part in range(parts):
            share = {k: v[part * 4 // parts : (part + 1) * 4 // parts] for k, v in batch.items()}
            turn = loop.game.turn(share, loop.device)
            quiet = torch.zeros(len(share["case"]), 2, *share["image"].shape[2:])
            turn = games.Turn((*turn.given, quiet), turn.beside, turn.real, turn.hole, turn.code)
            adversarial.play(
                loop.generator.eval(), loop.discriminator.eval(), loop.game, loop.recipe.loss, turn, parts, False
            )
        found.append([p.grad for p in loop.generator.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0.1)


class ZeroNoise(Tumours):
    """Tumours of one size and place, so that every part has as many voxels to paint."""

    def one(self, number):
        image, label = super().one(7)
        return image + 0.01 * number, label


def test_the_discriminator_rests_while_it_is_too_good(tmp_path):
    loop = adversarial.GanLoop(little(engine__ceiling=0.85), Tumours(), GanRun(tmp_path))
    loop.standing.accuracy = 0.9
    before = [p.clone() for p in loop.discriminator.parameters()]
    row, _ = loop.step([loop.samples.batch(range(4))])
    assert row["rested"] == 1
    assert all(torch.equal(a, b) for a, b in zip(before, loop.discriminator.parameters(), strict=True))
    loop.standing.accuracy = 0.6
    assert loop.step([loop.samples.batch(range(4))])[0]["rested"] == 0
    assert not all(torch.equal(a, b) for a, b in zip(before, loop.discriminator.parameters(), strict=True))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch(tmp_path):
    class Broken(Tumours):
        def one(self, number):
            image, label = super().one(number)
            return image * (torch.inf if number == 9 else 1), label

    with pytest.raises(BrainsegError, match=r"at step 3.*lower both rates"):
        fit(little(budget__steps=5), tmp_path / "run", Broken())
    assert (tmp_path / "run" / "nonfinite" / "batch.safetensors").is_file()


def test_r1s_pair_plays_its_own_game(tmp_path):
    changes = {
        "generator": {"name": "generator_r1", "width": 4},
        "discriminator": {"name": "discriminator_r1", "width": 4},
    }
    recipe = gan_recipe.parse({**CONTENT, **changes, "loss": {"adversarial": "bce"}}, changes={"budget.steps": 4})
    run = fit(recipe, tmp_path / "run")
    assert run.finished and read_generator(run.path)[2] is None
    assert run.history()["accuracy"].between(0, 1).all()


def test_another_recipe_cannot_resume_a_run(tmp_path):
    GanRun.begin(tmp_path / "run", little())
    with pytest.raises(SettingError, match="the run was begun with"):
        GanRun.begin(tmp_path / "run", little(seed=5), resume=True)


@pytest.mark.parametrize("kind", ["hinge", "least_squares", "bce"])
def test_the_losses_are_those_of_the_papers(kind):
    torch.manual_seed(0)
    real, made = torch.randn(2, 1, 3, 3, 3), torch.randn(2, 1, 3, 3, 3)
    weights = torch.full_like(real, 1 / real.numel())
    binary = torch.nn.functional.binary_cross_entropy_with_logits
    if kind == "bce":
        truth = 0.5 * (binary(real, torch.ones_like(real)) + binary(made, torch.zeros_like(made)))
    elif kind == "hinge":
        theirs = PatchAdversarialLoss(criterion="hinge")  # MONAI sends the logits through tanh first
        truth = 0.5 * (theirs(real, True, True) + theirs(made, False, True))
        real, made = real.tanh(), made.tanh()
    else:
        truth = 0.5 * ((real - 1).square().mean() + (made + 1).square().mean())
    assert float(games.discriminator_loss(kind, real, made, weights)) == pytest.approx(float(truth), rel=1e-5)
    assert games.generator_loss(kind, made + 1, weights) < games.generator_loss(kind, made, weights)


def test_only_logits_that_see_the_hole_count():
    hole = torch.zeros(1, 1, 16, 16, 16, dtype=torch.bool)
    hole[..., :4, :4, :4] = True
    weights = games.focus(hole, (4, 4, 4))
    assert weights.sum() == 1 and weights[0, 0, 0, 0, 0] == 1


def test_grain_in_another_place_costs_less_than_smoothness():
    torch.manual_seed(0)
    real = torch.randn(1, 1, 32, 32, 32)
    hole = torch.ones(1, 1, 32, 32, 32, dtype=torch.bool)
    other, smooth = torch.randn_like(real), torch.zeros_like(real)
    assert games.reconstruction(other, real, hole) < 0.6 * games.reconstruction(smooth, real, hole)
    assert games.reconstruction(real, real, hole) == 0


def test_stripes_and_white_noise_cost_more_than_other_clumps_of_the_right_size():
    torch.manual_seed(0)
    hole = torch.ones(1, 1, 32, 32, 32, dtype=torch.bool)
    clumps, others = (torch.nn.functional.interpolate(torch.randn(1, 1, 8, 8, 8), scale_factor=4) for _ in range(2))
    stripes, noise = torch.randn(1, 1, 32, 1, 1).sign().expand_as(clumps), torch.randn_like(clumps)
    for wrong in (stripes, noise):
        wrong = wrong * clumps.std()
        assert games.reconstruction(others, clumps, hole) < 0.9 * games.reconstruction(wrong, clumps, hole)
