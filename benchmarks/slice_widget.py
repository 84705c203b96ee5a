"""Claim: in the kernel, one change of the slice viewer takes 30 ms or less (median) for four 240 x 240 views.

Measured on a volume of BraTS's size (4, 240, 240, 155) with truth and prediction, overlay and outline on, beside the
same picture through matplotlib. Run: python benchmarks/slice_widget.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np

from brainseg_utils import seeds
from brainseg_utils.views import palette, png, slices
from brainseg_utils.views.state import Scene, ViewState
from brainseg_utils.views.widget import SliceWidget

SHAPE = (240, 240, 155)
ROUNDS = 60
COMPARED = 8  # rounds for matplotlib, and for ours beside it
LIMIT_MS = 30


def scene(order: str) -> Scene:
    """A noisy ellipsoid with a three-shelled lesion; `order` is the arrays' memory layout, C or F (as NIfTI has it)."""
    rng = seeds.stream(0, "slice widget")
    x, y, z = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in SHAPE)]
    brain = (x / 0.65) ** 2 + (y / 0.8) ** 2 + (z / 0.9) ** 2 < 1  # 41% of the middle slice
    images = np.stack([brain * rng.normal(100, 10, SHAPE).astype(np.float32) for _ in range(4)])
    radius = np.sqrt((x - 0.2) ** 2 + (y - 0.1) ** 2 + z**2)
    truth = np.select([radius < 0.1, radius < 0.2, radius < 0.35], [1, 3, 2], 0).astype(np.uint8)
    if order == "F":
        images = np.ascontiguousarray(images.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    truth = np.asarray(truth, order=order)
    return Scene(
        images,
        ("t1n", "t1c", "t2w", "t2f"),
        truth=truth,
        prediction=np.asarray(np.roll(truth, 4, 0), order=order),
        tissues={1: "NETC", 2: "SNFH", 3: "ET"},
    )


def milliseconds(work: Callable[[int], object], rounds: int = ROUNDS) -> float:
    """Median over rounds, each on another slice; one round first that does not count."""
    work(-1)
    times = []
    for number in range(rounds):
        start = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def with_matplotlib(state: ViewState) -> bytes:
    """The same four views as a matplotlib figure: image, overlay, PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import ListedColormap

    figure, axes = pyplot.subplots(1, 4, figsize=(9.6, 2.4), dpi=100)
    colours = ListedColormap(["none", *(palette.TISSUES[t].colour for t in ("NETC", "SNFH", "ET"))])
    assert state.scene.truth is not None
    for channel, axis in enumerate(axes):
        axis.imshow(slices.cut(state.scene.images[channel], "axial", state.at[2]), cmap="gray")
        axis.imshow(slices.cut(state.scene.truth, "axial", state.at[2]), cmap=colours, alpha=0.35, vmin=0, vmax=3)
        axis.axis("off")
    out = BytesIO()
    figure.savefig(out, format="png")
    pyplot.close(figure)
    return out.getvalue()


def main() -> None:
    """Prints the table."""
    print("median ms in the kernel for one key press in the viewer, of which drawing and PNG")
    four: list[float] = []
    for order in ("C", "F"):
        start = ViewState(scene(order))
        for views, name, state in (
            (4, "axial", start),
            (4, "sagittal", replace(start, plane="sagittal")),
            (4, "axial, differences", replace(start, labels="errors")),
            (8, "axial, truth above prediction", replace(start, labels="both")),
        ):
            widget = SliceWidget(state)
            whole = milliseconds(lambda n, widget=widget: widget.on_key("ArrowUp" if n % 40 < 20 else "ArrowDown"))
            drawing = milliseconds(lambda n, state=state: slices.render(state.moved(n % 40 - 20)))
            image = slices.render(state)
            encoding = milliseconds(lambda _, image=image: png.encode(image))
            print(f"  {views} views, {order} order, {name:30s} {whole:6.1f}   {drawing:6.1f} {encoding:6.1f}")
            if views == 4:
                four.append(whole)
    ours = milliseconds(lambda n: png.encode(slices.render(start.moved(n % 40 - 20))), COMPARED)
    theirs = milliseconds(lambda n: with_matplotlib(start.moved(n % 40 - 20)), COMPARED)
    print(f"  the same four views through matplotlib {theirs:.1f}, ratio {theirs / ours:.1f}")
    verdict = "held" if max(four) <= LIMIT_MS else "NOT HELD"
    print(f"slowest with four views {max(four):.1f} ms, limit {LIMIT_MS} ms: {verdict}")


if __name__ == "__main__":
    main()
