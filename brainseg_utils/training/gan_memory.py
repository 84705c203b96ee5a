"""How much memory a GAN needs: forecast without allocating anything, measured in a process of its own, and bounded.

`memory.forecast` counts what one network keeps for its backward pass. A step of a GAN is more: the generator's pass
waits while the discriminator goes forward three times and backward twice. So the step itself is rehearsed, with
PyTorch's fake tensors, which have shapes and types and no content, and every tensor is counted from its making to its
end. What convolutions need for themselves (copies in another memory order) is added for the largest of them.

Forecast and measurement are of what lives at one moment. Up to 20 MiB of a CPU's process are the libraries' and the
allocator's own, whatever the patch, so that below 100 MiB the two can lie further apart than the fifth that they keep
above (R1's networks at 32 voxels a side: 47 MiB forecast, 59 measured; at 64: 304 and 306). A training on a CPU keeps
freed blocks for the next step (`device.keep_memory`), and what does not fit into a freed block takes a new one: such a
process grows to 1.3 to 2 times as much (measured; it differs from run to run). Leave room for that in a budget.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import tomllib
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from brainseg_utils.errors import BrainsegError, SettingError
from brainseg_utils.training import adversarial, batches, device, games, gan_recipe, memory
from brainseg_utils.training.gan_recipe import GanRecipe
from brainseg_utils.training.memory import MIB
from brainseg_utils.training.recipe import Choice
from brainseg_utils.training.run import Run

MODALITIES = 4
STATES = 2  # tensors that Adam keeps a parameter
COPIES = 0.1  # of the largest convolution's inputs and outputs; measured with oneDNN on a CPU (.04 to .16)
WARM_SIDE = 16  # voxels of a step that is not measured


@dataclass(frozen=True)
class GanForecast:
    """Bytes that training adds to the process.

    Attributes:
        networks: weights of both, with slow weights and what Adam remembers.
        step: the most that a step has at one moment beside them, gradients included.
        copies: what the largest convolution needs for itself.
    """

    networks: int
    step: int
    copies: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.networks + self.step + self.copies

    def __str__(self) -> str:
        parts = ("networks", "step", "copies")
        return f"{self.total / MIB:.0f} MiB (" + ", ".join(f"{p} {getattr(self, p) / MIB:.0f}" for p in parts) + ")"


@dataclass(frozen=True)
class Plan:
    """How a budget of memory is used.

    Attributes:
        size: X, Y, Z of a patch.
        accumulate: parts of a batch.
        checkpointing: the generator computes its blocks twice.
        expected: what that needs.
    """

    size: tuple[int, int, int]
    accumulate: int
    checkpointing: bool
    expected: GanForecast


def forecast(recipe: GanRecipe, size: Sequence[int], half: bool = False) -> GanForecast:
    """What training will need for patches of one size.

    Args:
        recipe: networks, losses, batch and accumulation are used.
        size: X, Y, Z.
        half: the networks compute in bf16.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    part = recipe.budget.batch // recipe.engine.accumulate
    with FakeTensorMode():
        generator, discriminator = (gan_recipe.build(c).train() for c in (recipe.generator, recipe.discriminator))
        game: games.Game = games.GAMES[recipe.generator.name]()
        weights = [t for network in (generator, discriminator) for t in network.state_dict().values()]
        learned = [p for network in (generator, discriminator) for p in network.parameters()]
        own = _bytes(weights) + STATES * _bytes(learned) + _bytes(list(generator.state_dict().values()))
        with Live() as live:
            batch = {
                "image": torch.zeros(part, MODALITIES, *size),
                "label": torch.zeros(part, 1, *size, dtype=torch.uint8),
            }
            turn = game.turn(batch, torch.device("cpu"))
            adversarial.play(generator, discriminator, game, recipe.loss, turn, recipe.engine.accumulate, half)
    return GanForecast(own, live.most, int(COPIES * live.largest))


def measure(recipe: GanRecipe, size: Sequence[int]) -> int:
    """The most that two steps add to a process of its own, bytes.

    On a GPU: of its memory, as PyTorch counts it.

    Args:
        recipe: as `forecast`; its data are not used, the patches are noise.
        size: X, Y, Z.

    Raises:
        BrainsegError: it did not come to its end, for want of memory most likely.
    """
    task = json.dumps({"recipe": recipe.toml(), "size": list(size), "threads": torch.get_num_threads()})
    found = subprocess.run([sys.executable, "-m", __name__], input=task, capture_output=True, text=True, check=False)
    if found.returncode:
        last = (found.stderr.strip().splitlines() or [f"signal {-found.returncode}"])[-1]
        raise BrainsegError(f"two steps did not end ({last})", where="x".join(map(str, size)), remedy="see `forecast`")
    return int(found.stdout)


def choose(recipe: GanRecipe, most: int, sizes: Sequence[int], half: bool = False) -> Plan:
    """The largest patch that a budget of memory allows, and how to cut the batch for it.

    For each size, from the largest: the whole batch at once; then in parts; then, where the generator can, with its
    blocks computed twice. The first that fits is taken: parts cost no time, checkpointing a quarter more.

    Args:
        recipe: networks, losses and batch are used.
        most: bytes.
        sizes: sides of a cubic patch to choose from.
        half: the networks compute in bf16.

    Raises:
        SettingError: none fits.
    """
    batch = recipe.budget.batch
    parts = [n for n in range(1, batch + 1) if batch % n == 0]
    options = [False, True] if recipe.generator.name == "painter" else [False]
    least: GanForecast | None = None
    for side in sorted(sizes, reverse=True):
        for checkpointing in options:
            for accumulate in parts:
                expected = forecast(changed(recipe, accumulate, checkpointing), (side,) * 3, half)
                if expected.total <= most:
                    return Plan((side,) * 3, accumulate, checkpointing, expected)
                least = expected
    raise SettingError(
        f"the smallest patch, {min(sizes)} voxels a side, needs {least}",
        expected=f"{most / MIB:.0f} MiB at most",
        remedy="offer smaller patches, or lower the generator's widths",
    )


def changed(recipe: GanRecipe, accumulate: int, checkpointing: bool) -> GanRecipe:
    """A recipe with its batch in parts and, for the painter, blocks computed twice."""
    generator = recipe.generator
    if checkpointing:
        generator = Choice(generator.name, {**generator.options, "checkpointing": True})
    return replace(recipe, generator=generator, engine=replace(recipe.engine, accumulate=accumulate))


class Noise:
    """Samples without content: a ball of tumour in noise."""

    def __init__(self, size: Sequence[int]) -> None:
        self.size = tuple(size)

    def __len__(self) -> int:
        return 1

    def batch(self, numbers: Sequence[int], channels_last: bool = False) -> dict[str, Any]:
        """As `training.data.Samples`."""
        label = torch.zeros(len(numbers), 1, *self.size, dtype=torch.uint8)
        x, y, z = (slice(n // 4, -(n // 4)) for n in self.size)
        label[..., x, y, z] = 1
        image = torch.randn(len(numbers), MODALITIES, *self.size)
        return {"image": image, "label": label, "case": ["noise"] * len(numbers)}


def main() -> None:
    """The process of `measure`: reads the task, prints the bytes."""
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    recipe, size = gan_recipe.parse(tomllib.loads(task["recipe"])), task["size"]
    with tempfile.TemporaryDirectory() as folder:

        def steps(sides: Sequence[int], count: int) -> adversarial.GanLoop:
            loop = adversarial.GanLoop(recipe, Noise(sides), Run(folder))
            device.return_memory()
            for parts in batches.steps(loop.samples, 0, count, recipe.budget.batch, recipe.engine.accumulate):
                loop.step(parts)
            return loop

        loop = steps([WARM_SIDE] * 3, 1)  # the libraries' own beginnings are not training's
        where = loop.device
        del loop
        gc.collect()
        before = memory.used(where)
        steps(size, 2)
    print(memory.peak(where) - before)


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and remembers the most.

    Example:
        >>> with Live() as live:
        ...     one = torch.zeros(256)
        ...     two = one + 1
        ...     del one
        ...     three = two * 2
        >>> live.now, live.most
        (2048, 2048)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = self.largest = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Lets an operation happen, and counts what it returns."""
        found = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(found):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        if "convolution" in str(func):
            taken = [t for t in torch.utils._pytree.tree_leaves((args, found)) if isinstance(t, Tensor)]
            self.largest = max(self.largest, _bytes(taken))
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.known:
            return
        size = storage.nbytes()
        self.known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


if __name__ == "__main__":
    main()
