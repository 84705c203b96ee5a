"""The loop: what each step does, by numbers; and the mistakes that loops are known for."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from brainseg_utils.errors import BrainsegError, DataError, SettingError
from brainseg_utils.training import losses
from brainseg_utils.training.data import Sources
from brainseg_utils.training.loop import Loop, fit
from brainseg_utils.training.run import Run
from brainseg_utils.training.schedules import build as schedule

PLAIN = {
    "network__name": "unet2d",
    "network__width": 4,
    "optimiser__name": "sgd",
    "optimiser__rate": 0.05,
    "schedule__name": "constant",
    "loss__name": "bce",
    "engine__ema": 0.0,
    "engine__clip": 0.0,
}


def trained(recipe, sources, folder, **more):
    return fit(recipe, sources, Run.begin(folder, recipe), **more)


def weights(run):
    return run.load().network.state_dict()


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_network_learns_and_the_run_says_so(little, sources, tmp_path):
    recipe = little(budget__steps=60, budget__epoch_steps=20)
    run = trained(recipe, sources(), tmp_path / "run")
    history = run.history()
    assert history["step"].tolist() == [20, 40, 60]
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert history["dice"].iloc[-1] > 0.7
    assert run.metrics["dice"] == pytest.approx(history["dice"].iloc[-1])
    assert run.metrics["steps"] == 60
    assert run.finished
    loaded = run.load()
    image = sources().validation[0]["image"]
    assert ((torch.sigmoid(loaded.network(image)) > 0.5) == sources().validation[0]["label"]).float().mean() > 0.95
    assert (loaded.recipe, loaded.classes) == (recipe, ("object",))
    assert list((run.path / "events").glob("events.out.tfevents.*"))


def by_hand(recipe, sources, folder, steps):
    """A plain loop, as R2 would write it, from the same first weights."""
    network = Loop(recipe, sources, Run(folder)).plain
    optimiser = torch.optim.SGD(network.parameters(), lr=recipe.optimiser.options["rate"])
    batch = recipe.budget.batch
    for step in range(steps):
        samples = sources.train.batch(range(step * batch, (step + 1) * batch))
        optimiser.zero_grad()
        losses.BCE()(network(samples["image"]), samples["label"]).backward()
        optimiser.step()
    return network.state_dict()


def test_the_loop_computes_what_a_plain_loop_does(little, sources, tmp_path):
    recipe = little(**PLAIN, budget__steps=7)
    run = trained(recipe, sources(), tmp_path / "run")
    plain = by_hand(recipe, sources(), tmp_path / "hand", 7)
    for name, value in weights(run).items():
        assert torch.allclose(value, plain[name], atol=1e-6), name


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_are_the_whole_batch(little, sources, tmp_path, parts):
    whole = trained(little(**PLAIN), sources(), tmp_path / "whole")
    cut = trained(little(**PLAIN, engine__accumulate=parts), sources(), tmp_path / "cut")
    for name, value in weights(whole).items():
        assert torch.allclose(value, weights(cut)[name], atol=1e-6), name
    assert cut.history()["train_loss"].tolist() == pytest.approx(whole.history()["train_loss"].tolist(), abs=1e-5)


def test_every_sample_is_drawn_once_in_order_and_no_step_too_many(little, blobs, sources, tmp_path):
    samples = blobs()
    trained(little(**PLAIN, engine__accumulate=2, budget__steps=5), sources(samples), tmp_path / "run")
    drawn = [n for numbers in samples.drawn[1:] for n in numbers]  # the first call asks for one sample's shape
    assert drawn == list(range(5 * 4))


def test_the_rate_of_each_step_is_the_schedules_at_that_step(little, sources, tmp_path):
    recipe = little(budget__steps=10, budget__epoch_steps=1)
    run = trained(recipe, sources(), tmp_path / "run")
    expected = [1e-2 * schedule("cosine", warmup=0.1).factor(step, 10, 1) for step in range(10)]
    assert run.history()["rate"].tolist() == pytest.approx(expected)


def test_accumulation_does_not_hurry_the_schedule(little, sources, tmp_path):
    recipe = little(budget__steps=6, budget__epoch_steps=1, engine__accumulate=2)
    rates = trained(recipe, sources(), tmp_path / "run").history()["rate"].tolist()
    assert rates == pytest.approx([1e-2 * schedule("cosine", warmup=0.1).factor(s, 6, 1) for s in range(6)])


def test_plateau_watches_the_validation_loss(little, sources, tmp_path):
    changes = {**PLAIN, "schedule__name": "plateau", "schedule__patience": 0, "optimiser__rate": 50.0}
    run = trained(little(**changes, budget__steps=12), sources(), tmp_path / "run")
    history = run.history()
    rises = history["val_loss"].cummin().shift(1) <= history["val_loss"]
    assert rises.any()
    assert history["rate"].tolist() == pytest.approx([50 * 0.1 ** rises[:n].sum() for n in range(len(history))])


def test_validation_changes_neither_weights_nor_statistics_nor_mode(little, sources, tmp_path):
    recipe = little(engine__ema=0.0)
    seen = []
    with_it = trained(recipe, sources(), tmp_path / "a", after_epoch=lambda row, net, v: seen.append(net.training))
    without = little(engine__ema=0.0, engine__keep=["last"], split__validation="none")
    blind = trained(without, sources(validation=False), tmp_path / "b")
    assert seen == [False] * 4
    assert same(weights(with_it), weights(blind))
    assert "dice" not in blind.history()


def test_validation_is_without_dropout_and_repeats(little, sources, tmp_path):
    loop = Loop(little(network__dropout=0.9), sources(), Run(tmp_path / "run"))
    loop.plain.train()
    first, second = loop._validate(), loop._validate()
    assert first.loss == second.loss
    assert loop.plain.training
    loop.plain.eval()
    logits = torch.cat([loop.plain(b["image"]) for b in loop.sources.validation])
    truth = torch.cat([b["label"] for b in loop.sources.validation])
    found = torch.sigmoid(logits) >= 0.5
    dice = [2 * (f & (t > 0)).sum() / (f.sum() + t.sum()) for f, t in zip(found, truth, strict=True)]
    assert first.mean_dice == pytest.approx(float(torch.stack(dice).mean()), abs=1e-6)


def test_slow_weights_are_what_is_validated_and_kept(little, sources, tmp_path):
    kept = []
    recipe = little(engine__ema=0.9)
    run = trained(recipe, sources(), tmp_path / "run", after_epoch=lambda row, net, v: kept.append(
        {name: value.clone() for name, value in net.state_dict().items()}))  # fmt: skip
    assert same(weights(run), kept[-1])
    fast = trained(little(engine__ema=0.0), sources(), tmp_path / "fast")
    assert not same(weights(run), weights(fast))


def test_the_best_weights_are_those_of_the_best_epoch(little, sources, tmp_path):
    states = {}

    def remember(row, network, validation):
        states[row["epoch"]] = {name: value.clone() for name, value in network.state_dict().items()}

    recipe = little(**{**PLAIN, "optimiser__rate": 5.0, "loss__name": "dice"}, budget__steps=10, budget__epoch_steps=1)
    run = trained(recipe, sources(), tmp_path / "run", after_epoch=remember)
    history = run.history()
    from brainseg_utils.training.checkpoints import load_weights

    for policy, epoch in (("best_dice", history["dice"].idxmax() + 1), ("best_loss", history["val_loss"].idxmin() + 1)):
        assert same(load_weights(run.path / f"{policy}.safetensors").network.state_dict(), states[epoch]), policy
    assert same(weights(run), states[10])
    assert history["dice"].idxmax() + 1 < 10
    assert run.metrics["best_dice"] == pytest.approx(history["dice"].max())
    assert run.metrics["best_loss"] == pytest.approx(history["val_loss"].min())


def test_patience_stops_and_every_kth_epoch_is_kept(little, sources, tmp_path):
    changes = {**PLAIN, "optimiser__rate": 1e-12, "engine__patience": 2, "engine__keep_every": 2}
    run = trained(little(**changes, budget__steps=30, budget__epoch_steps=1), sources(), tmp_path / "run")
    assert len(run.history()) == 3
    assert run.metrics["stopped_early"]
    assert [p.name for p in sorted(run.path.glob("epoch-*"))] == ["epoch-0002.safetensors"]


def test_a_run_may_begin_with_the_weights_of_another(little, sources, tmp_path):
    first = trained(little(**PLAIN, budget__steps=3), sources(), tmp_path / "first")
    file = str(first.path / "weights.safetensors")
    still = little(**{**PLAIN, "optimiser__rate": 1e-12}, engine__start=file, budget__steps=1)
    second = trained(still, sources(), tmp_path / "second")
    for name, value in weights(second).items():
        assert torch.allclose(value, weights(first)[name], atol=1e-8), name
    other = little(**{**PLAIN, "network__width": 8}, engine__start=file, budget__steps=1)
    with pytest.raises(DataError, match="another network"):
        trained(other, sources(), tmp_path / "third")


def test_an_epoch_is_one_pass_unless_said_otherwise(little, sources, tmp_path):
    recipe = little(**PLAIN, budget__epochs=2, budget__epoch_steps=0)
    assert trained(recipe, sources(), tmp_path / "run").history()["step"].tolist() == [10, 20]


def test_a_budget_of_seconds_becomes_steps_once(little, sources, tmp_path):
    recipe = little(budget__seconds=0.5)
    run = trained(recipe, sources(), tmp_path / "run")
    measured = run.environment["budget"]
    assert run.metrics["steps"] == measured["steps"] >= 1
    assert measured["step_seconds"] > 0
    by_steps = trained(little(budget__steps=measured["steps"]), sources(), tmp_path / "steps")
    assert same(weights(run), weights(by_steps))  # the measurement left no trace


def test_a_loss_that_is_no_number_stops_and_the_batch_is_kept(little, blobs, sources, tmp_path):
    class Broken(blobs):
        def one(self, number):
            image, label = super().one(number)
            return (image * float("nan") if number == 17 else image), label

    recipe = little(**PLAIN)
    with pytest.raises(BrainsegError, match=r"case17.*the loss is nan at step 5.*lower optimiser.rate"):
        trained(recipe, sources(Broken()), tmp_path / "run")
    from safetensors.torch import load_file

    kept = load_file(tmp_path / "run" / "nonfinite" / "batch.safetensors")
    assert torch.isnan(kept["image"][1]).all()
    assert not torch.isnan(kept["image"][0]).any()
    assert Run(tmp_path / "run").history()["step"].tolist() == [3]


def test_out_of_memory_says_which_setting_to_lower(little, blobs, sources, tmp_path):
    def fault(number):
        if number == 9:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    with pytest.raises(BrainsegError, match=r"out of memory; set engine.accumulate = 2"):
        trained(little(**PLAIN), sources(blobs(fault=fault)), tmp_path / "run")


def test_a_run_that_cannot_fit_is_refused_before_its_first_step(little, sources, tmp_path, monkeypatch):
    from brainseg_utils.training import memory

    monkeypatch.setattr(memory, "available", lambda device: 10_000)
    with pytest.raises(SettingError, match=r"training needs about .* MiB.*set engine.accumulate = 2"):
        trained(little(**PLAIN), sources(), tmp_path / "run")


def test_what_does_not_belong_together_is_refused(little, sources, tmp_path):
    setr = {"network__name": "setr", "network__size": 16, "network__cuts": 4, "network__dim": 16, "network__heads": 2}
    small = {"network__mlp": 16, "network__depth": 1, "network__decoder": 4}
    with pytest.raises(SettingError, match="network setr returns 8x8 for a mask of 16x16"):
        trained(little(**setr, **small, network__stages=1), sources(), tmp_path / "a")
    with pytest.raises(SettingError, match=r"loss ce with softmax.*region channels"):
        trained(little(**{**PLAIN, "loss__name": "ce"}), sources(), tmp_path / "b")
    with pytest.raises(SettingError, match=r"images of 18x18 do not pass through network"):
        trained(little(), sources(type(sources().train)(size=18)), tmp_path / "c")


def test_classes_that_exclude_each_other_are_scored_one_by_one(little, blobs, tmp_path):
    class Classes(blobs):
        def one(self, number):
            image, label = super().one(number)
            return image, label * (1 + number % 2)

    validation = [Classes().batch(range(1000, 1006))]
    exclusive = Sources(Classes(), validation, 3, ("odd", "even"), exclusive=True)
    recipe = little(**{**PLAIN, "loss__name": "dice_ce", "loss__softmax": True})
    loop = Loop(recipe, exclusive, Run(tmp_path / "by hand"))

    class Guess(torch.nn.Module):  # the first class everywhere where there is any
        def forward(self, image):
            return torch.nn.functional.one_hot((validation[0]["label"][:, 0] > 0).long(), 3).movedim(-1, 1) * 9.0

    loop.plain = Guess()
    found = loop._validate()
    assert found.dice == {"odd": 0.5, "even": 0.5}  # of six cases three have the one class, three the other
    assert found.by_case["case0"] == [1.0, 1.0]
    assert found.by_case["case1"] == [0.0, 0.0]
    run = trained(recipe, exclusive, tmp_path / "run")
    assert {"dice_odd", "dice_even"} <= set(run.history())
    assert run.load().network.head.out_channels == 3


def test_bf16_trains_to_about_the_same(little, sources, tmp_path):
    runs = [
        trained(little(engine__precision=precision), sources(), tmp_path / precision) for precision in ("fp32", "bf16")
    ]
    losses_ = [run.history()["train_loss"].iloc[-1] for run in runs]
    assert losses_[1] == pytest.approx(losses_[0], rel=0.05)
    assert runs[1].environment["bf16"] is True
    assert all(value.dtype != torch.bfloat16 for value in weights(runs[1]).values())


def test_the_history_is_read_back_digit_for_digit(little, sources, tmp_path):
    rows = []
    run = trained(little(), sources(), tmp_path / "run", after_epoch=lambda row, net, v: rows.append(dict(row)))
    pd.testing.assert_frame_equal(run.history(), pd.DataFrame(rows), check_exact=True)


def test_progress_is_a_few_lines_with_the_time_left(little, sources, tmp_path, capsys):
    trained(little(budget__steps=40, budget__epoch_steps=1), sources(), tmp_path / "run")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("little step")]
    assert len(lines) == 10
    assert "left: loss" in lines[0]
    assert "Dice" in lines[0]
