"""The table "Coming from elsewhere" of the README of the library, and the arrays that its lines are run on.

It imports no framework: `tests/fixtures/elsewhere/make_fixtures.py` reads it where there is TensorFlow and nothing else.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

README = Path(__file__).resolve().parents[2] / "varmorph" / "README.md"
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "elsewhere" / "fixtures.npz"
WINDOWS = [(3, 3), (5, 3), (4, 3), (2, 2), (1, 4)]
LIBRARY = re.compile(r"\*\*(\S+) ([0-9.]+)\*\*")
CODE = re.compile(r"`([^`]+)`")


class Line(NamedTuple):
    """A line of the table: what a library is called with, and what gives the same here."""

    library: str
    there: str
    here: str


def read_table():
    """Give the version of each library, by its name, and the lines; each row is one or the other."""
    section = re.search(r"^## Coming from elsewhere$(.*?)^## ", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)[1]
    rows = [row for row in section.splitlines() if row.startswith("|")]
    versions, lines = {}, []
    for row in rows[2:]:
        there, here, _ = (cell.strip() for cell in row.split("|")[1:-1])
        if named := LIBRARY.fullmatch(there):
            library, versions[named[1]] = named[1], named[2]
        else:
            codes = [CODE.fullmatch(cell) for cell in (there, here)]
            assert all(codes), f"expected a library, or two columns of code, found {row}"
            lines.append(Line(library, *(code[1] for code in codes)))
    return versions, lines


def arrays(window):
    """Draw what the lines name, in NumPy: multiples of 1/4096, so that sums are exact and libraries agree to the bit.

    Footprints hold the origin, wherever a library has it: no window is empty at the border.
    """
    rng = np.random.default_rng(window)
    footprint = (rng.random(window) < 0.6).astype(np.uint8)
    for origin in ((0, 0), tuple(n // 2 for n in window), tuple((n - 1) // 2 for n in window)):
        footprint[origin] = 1
    odd = (rng.random((3, 3)) < 0.5).astype(np.uint8)
    odd[1, 1] = 1
    return {
        "image": rng.integers(0, 4097, (11, 10)) / 4096,
        "b": rng.integers(-4096, 1, window) / 4096,
        "k": footprint,
        "odd": odd,
        "h": 0.25,
    }
