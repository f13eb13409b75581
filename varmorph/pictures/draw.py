"""Draw the pictures of the README: `python -m varmorph.pictures.draw [folder]`, by default beside this file.

The photograph is `skimage.data.camera()` (CC0, in scikit-image's package). Each of its pixels is drawn as a square of whole
screen pixels, black is 0 and white 1 in every panel.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from varmorph.torch import (
    Newton,
    closing,
    dilation,
    erosion,
    opening,
    regularised_dilation,
    variational_dilation,
    variational_opening,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "WIDTH", "draw"]

FOLDER = Path(__file__).parent
WIDTH, GAP = 1400, 8  # of a picture and between its panels, in pixels
LINE = 30  # height of a line of text, in pixels
TEXT = 21  # size of the letters, in pixels: about 13 where a page shows the picture 850 pixels wide
GREYS = 96  # few enough for small files, too many to be told apart


class Panel(NamedTuple):
    """An image (1, 1, H, W) with values in [0, 1], and what stands above it."""

    image: Tensor
    label: str


def disk(size: int) -> Tensor:
    """Flat structuring function (size, size): 0 in the disk that touches the sides of the window, -inf outside."""
    place = torch.arange(size, dtype=torch.float64) - size // 2
    inside = place[:, None] ** 2 + place**2 <= (size / 2) ** 2
    return torch.zeros(size, size, dtype=torch.float64).masked_fill(~inside, -torch.inf)


def photograph(top: int, left: int, height: int, width: int) -> Tensor:
    """A detail of the photograph, (1, 1, height, width), float64 in [0, 1]."""
    from skimage import data  # a dependency of the pictures alone, as is matplotlib

    image = torch.from_numpy(data.camera()).double() / 255
    return image[None, None, top : top + height, left : left + width]


def distance(a: Tensor, b: Tensor) -> str:
    """Greatest difference of two images in grey levels of 255, as text."""
    return f"{255 * (a - b).abs().max().item():.1f}"


class Canvas:
    """A picture that is laid out in pixels, from the top."""

    def __init__(self, height: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.height = height
        self.figure: Figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=100, facecolor="white")
        FigureCanvasAgg(self.figure)

    def write(self, text: str, x: float, y: float, **look: Any) -> float:
        """Write a line of text whose middle is y pixels below the top; return where it ends at the right."""
        look = {"size": TEXT * 0.72, "ha": "left", "va": "center", **look}
        written = self.figure.text(x / WIDTH, 1 - y / self.height, text, **look).get_window_extent()
        if written.x0 < 0 or written.x1 > WIDTH:
            raise ValueError(f"text runs over the side of the picture, {written.x0:.0f} to {written.x1:.0f}: {text!r}")
        return written.x1

    def rule(self, left: float, right: float, y: float) -> None:
        """Draw a line from left to right, y pixels below the top."""
        from matplotlib.lines import Line2D

        endpoints = [left / WIDTH, right / WIDTH], [1 - y / self.height] * 2
        self.figure.add_artist(Line2D(*endpoints, color="0.5", linewidth=0.9))

    def show(self, panel: Panel, left: int, top: int, zoom: int, **look: Any) -> Axes:
        """Draw an image below its label, each pixel as zoom x zoom; `top` is that of the label."""
        height, width = (zoom * side for side in panel.image.shape[-2:])
        self.write(panel.label, left + width / 2, top + LINE / 2, ha="center")
        place = (left / WIDTH, 1 - (top + LINE + height) / self.height, width / WIDTH, height / self.height)
        axes = self.figure.add_axes(place)
        axes.set_axis_off()
        axes.imshow(
            panel.image[0, 0].numpy(), **{"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest", **look}
        )
        return axes

    def save(self, path: Path) -> None:
        """Write a PNG with a palette of `GREYS` colours."""
        from PIL import Image  # matplotlib needs it as well

        drawn = BytesIO()
        self.figure.savefig(drawn, format="png", dpi=100)
        with Image.open(drawn) as image:
            palette = image.convert("RGB").quantize(GREYS, dither=Image.Dither.NONE)
        palette.save(path, optimize=True)


def strip(panels: Sequence[Panel], zoom: int, heading: str, below: str) -> Canvas:
    """Draw panels side by side, with a heading above those from the third to the last but one, and a line of text below."""
    height, width = (zoom * side for side in panels[0].image.shape[-2:])
    canvas = Canvas(LINE + LINE + height + LINE)
    for place, panel in enumerate(panels):
        canvas.show(panel, place * (width + GAP), LINE, zoom)
    left, right = 2 * (width + GAP), (len(panels) - 1) * (width + GAP) - GAP
    canvas.write(heading, (left + right) / 2, LINE / 2, ha="center")
    canvas.rule(left, right, LINE)
    canvas.write(below, 0, canvas.height - LINE / 2)
    return canvas


def signed(number: float) -> str:
    """A number with a true minus sign."""
    return f"{number:g}".replace("-", "−")


def erosion_mean_dilation() -> Canvas:
    """Variational dilation at five levels, between the exact erosion and dilation."""
    x, window, levels = photograph(104, 166, 112, 84), disk(7), (-8.0, -2.0, 0.0, 2.0, 8.0)
    between = [variational_dilation(x, window, level) for level in levels]
    limits = erosion(x, window), dilation(x, window)
    panels = [Panel(x, "image"), Panel(limits[0], "erosion")]
    panels += [Panel(y, f"level {signed(level)}") for y, level in zip(between, levels, strict=True)]
    panels += [Panel(limits[1], "dilation")]
    below = (
        f"Window: disk of {int((window == 0).sum())} pixels. Level −8 differs from the erosion by at most "
        f"{distance(between[0], limits[0])}, level 8 from the dilation by {distance(between[-1], limits[1])} grey levels of 255."
    )
    return strip(panels, 2, "variational dilation at five logit levels; 0 is the mean", below)


def opening_closing() -> Canvas:
    """Opening edges at five pairs of levels, between the exact opening and closing."""
    x, window, levels = photograph(104, 166, 112, 84), disk(7), (8.0, 2.0, 0.0, -2.0, -8.0)
    between = [variational_opening(x, window, (-level, level)) for level in levels]
    limits = opening(x, window), closing(x, window)  # the disk is flat and symmetric: closing by -b is closing by b
    panels = [Panel(x, "image"), Panel(limits[0], "opening")]
    panels += [
        Panel(y, f"({signed(-level + 0.0)}, {signed(level + 0.0)})") for y, level in zip(between, levels, strict=True)
    ]
    panels += [Panel(limits[1], "closing")]
    below = (
        f"Window: disk of {int((window == 0).sum())} pixels. Levels (−8, 8) differ from the opening by at most {distance(between[0], limits[0])}, "
        f"(8, −8) from the closing by {distance(between[-1], limits[1])} grey levels of 255."
    )
    return strip(panels, 2, "variational opening at five pairs of edge levels; (0, 0) is a mean of means", below)


def regularised() -> Canvas:
    """Dilation of a noisy image: exact, separable, and held together by two kinds of edges at growing coupling."""
    side, zoom, level, smoothing, deviation = 113, 2, 2.0, 0.02, 0.1
    x, flat = photograph(80, 160, side, side), torch.zeros(3, 3, dtype=torch.float64)
    noisy = x + deviation * torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    rows = [
        [Panel(x, "image"), Panel(dilation(noisy, flat), "exact dilation")],
        [Panel(noisy, "with noise"), Panel(variational_dilation(noisy, flat, level), "separable")],
    ]
    for row, edges, couplings in zip(
        rows, ("quadratic", "huber"), ((1.0, 3.0, 10.0, 30.0), (0.03, 0.1, 0.3, 1.0)), strict=True
    ):
        options: dict[str, Any] = {"edge_penalty": edges, "edge_smoothing": smoothing if edges == "huber" else None}
        options["solver"] = Newton(tolerance=1e-4, on_failure="raise")  # to 0.2 of a grey level
        for coupling in couplings:
            held = regularised_dilation(noisy, flat, level, coupling, **options)
            row.append(Panel(held.value, f"{edges}, {coupling:g}"))
    step = zoom * side + GAP
    canvas = Canvas(LINE + 2 * (step + LINE) - GAP + LINE)
    for number, row in enumerate(rows):
        for place, panel in enumerate(row):
            canvas.show(panel, place * step, LINE + number * (step + LINE), zoom)
    left, right = 2 * step, 6 * step - GAP
    canvas.write(
        "regularised dilation: penalty of the edges between pixels, coupling", (left + right) / 2, LINE / 2, ha="center"
    )
    canvas.rule(left, right, LINE)
    canvas.write(
        f"Window 3 × 3; logit level {level:g} but for the exact dilation; noise of deviation {deviation} on the range 0 to 1; "
        f"huber with smoothing {smoothing}.",
        0,
        canvas.height - LINE / 2,
    )
    return canvas


def gradients() -> Canvas:
    """Gradient of one output pixel in the image, for five operators, on one logarithmic scale."""
    side, zoom, shown, decades = 65, 9, 25, 4
    x, window = photograph(119, 155, side, side).requires_grad_(), disk(7)
    images = {
        "dilation": dilation(x, window),
        "level 4": variational_dilation(x, window, 4.0),
        "level 0": variational_dilation(x, window, 0.0),
        "coupling 1": regularised_dilation(x, window, 4.0, 1.0).value,
        "coupling 10": regularised_dilation(x, window, 4.0, 10.0).value,
    }
    step, middle, cut = zoom * shown + GAP, side // 2, slice((side - shown) // 2, (side + shown) // 2)
    canvas = Canvas(2 * LINE + zoom * shown + 2 * LINE)
    axes = [canvas.show(Panel(x[..., cut, cut].detach(), "image"), 0, LINE, zoom)]
    for place, (label, y) in enumerate(images.items(), start=1):
        (gradient,) = torch.autograd.grad(y[0, 0, middle, middle], x)
        brightness = -gradient.clamp(min=10.0**-decades).log10() / decades
        axes.append(canvas.show(Panel(brightness[..., cut, cut], label), place * step, LINE, zoom))
        reached = int((gradient >= 10.0**-decades).sum())
        text = f"{reached} pixel{'s' * (reached > 1)}, max {gradient.max().item():.2g}"
        canvas.write(text, place * step + zoom * shown / 2, 2.5 * LINE + zoom * shown, ha="center")
    for panel in axes:
        _outline(panel, window == 0, shown // 2)
    for first, heading in ((2, "variational dilation"), (4, "regularised dilation, level 4")):
        left, right = first * step, (first + 2) * step - GAP
        canvas.write(heading, (left + right) / 2, LINE / 2, ha="center")
        canvas.rule(left, right, LINE)
    foot = canvas.height - LINE / 2
    end = canvas.write(
        "Derivative of the output at the dot by each input pixel, counted from 0.0001. Scale: 0.0001", 0, foot
    )
    scale = torch.linspace(1, 0, 120, dtype=x.dtype).expand(1, 1, 16, 120)
    canvas.show(Panel(scale, ""), int(end) + GAP, int(foot) - LINE - 8, 1)
    canvas.write("1. Outline: the window.", int(end) + 120 + 2 * GAP, foot)
    return canvas


def _outline(axes: Axes, inside: Tensor, middle: int) -> None:
    """Draw the border of a panel, of a window around its middle, and a point there."""
    from matplotlib.collections import LineCollection

    orange, size, padded = "#D55E00", inside.shape[0], torch.nn.functional.pad(inside.float(), (1, 1, 1, 1))
    corner = middle - size // 2 - 0.5
    across = [
        [(corner + j, corner + i), (corner + j + 1, corner + i)]
        for i, j in (padded[1:, 1:-1] != padded[:-1, 1:-1]).nonzero().tolist()
    ]
    down = [
        [(corner + j, corner + i), (corner + j, corner + i + 1)]
        for i, j in (padded[1:-1, 1:] != padded[1:-1, :-1]).nonzero().tolist()
    ]
    axes.add_collection(LineCollection(across + down, colors=orange, linewidths=1.4))
    axes.plot(middle, middle, ".", color=orange, markersize=6)
    axes.set_axis_on()
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_color("0.7")


PICTURES = {
    "erosion-mean-dilation.png": erosion_mean_dilation,
    "opening-closing.png": opening_closing,
    "regularised.png": regularised,
    "gradients.png": gradients,
}


def draw(folder: Path) -> None:
    """Write every picture to a folder, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in PICTURES.items():
        picture().save(folder / name)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
