"""Operator recovery: what counts as recovered, that every operator learns the same lesson, and what a cell leaves behind."""

import dataclasses
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from morphobench.contract import SPLITS, MorphologicalTarget, Split
from morphobench.plugins.discovery import discover_plugins
from morphobench.project.errors import UserError
from morphobench.project.paths import find_project
from morphobench.settings.studies import Initialisation, RecoveryStudy
from morphobench.studies.cells import by_instance
from morphobench.studies.measurement import Repeated
from morphobench.studies.plugin_operators import load_recovery_operators
from morphobench.studies.recovery import study as operator_recovery
from morphobench.studies.recovery.metrics import compare, depth, element_of
from morphobench.studies.recovery.training import Lesson, first_functions, learn
from varmorph import reference

ROWS, COLUMNS = np.mgrid[:7, :7] - 3
STICK = np.where(ROWS == 0, 0.0, -np.inf)
DISK = np.where(ROWS**2 + COLUMNS**2 <= 9, 0.0, -np.inf)
PLUGINS = discover_plugins(find_project())
QUADRATIC = -(ROWS**2 + COLUMNS**2) / 18
VARIANT = "operator-recovery.digits-dilation-stick"
METHODS = ("backbone-maxplus", "backbone-variational", "softmorph")


@pytest.mark.parametrize("true", [STICK, DISK, QUADRATIC])
def test_the_true_function_agrees_with_itself_whatever_is_added(true):
    assert compare(true.clip(-5) + 0.3, true, "dilation")[:2] == (0.0, 1.0)


@pytest.mark.parametrize("true", [STICK, DISK])
def test_a_flat_element_is_read_off_between_its_levels(true):
    noisy = np.where(np.isfinite(true), 0.0, -0.6) + np.random.default_rng(1).normal(0, 0.05, true.shape)
    assert np.array_equal(element_of(noisy), np.isfinite(true))


def test_an_untouched_start_is_the_full_window():
    assert element_of(np.full((7, 7), 0.2)).all()
    assert compare(np.zeros((7, 7)), STICK, "dilation").element_error == pytest.approx(42 / 49)


def test_what_cannot_win_counts_as_one_level():
    assert depth(np.array([0.0, -1.5, -np.inf])).tolist() == [0.0, -1.0, -1.0]


@pytest.mark.parametrize(
    ("operation", "error"), [("dilation", 14 / 49), ("erosion", 14 / 49), ("opening", 0), ("closing", 0)]
)
def test_translates_are_right_for_openings_and_closings_alone(operation, error):
    moved = np.roll(STICK, 2, axis=0).clip(-1)
    assert compare(moved, STICK, operation).element_error == pytest.approx(error)


def test_openings_by_translates_are_equal():
    image = np.random.default_rng(2).random((1, 1, 12, 12))
    for operation in ("opening", "closing"):
        operator = getattr(reference, operation)
        here, there = operator(image, STICK), operator(image, np.roll(STICK, 2, axis=0))
        inner = (..., slice(4, -4), slice(4, -4))
        assert np.array_equal(here[inner], there[inner])


def test_what_is_not_finite_agrees_with_nothing():
    assert compare(np.full((7, 7), np.nan), STICK, "dilation").element_error == 1


@pytest.mark.parametrize("start", get_args(Initialisation))
def test_first_functions_depend_on_the_seed_alone(start):
    few, many = first_functions(start, (7, 7), range(2)), first_functions(start, (7, 7), range(5))
    assert np.array_equal(few, many[:2])
    assert np.array_equal(many[0], many[1]) == (start == "zero")
    assert many.min() >= (-1 if start == "random" else -1.1)
    assert many.max() <= 0


def pairs(operation, true, seed=3, count=12):
    """The same pairs for learning and for judging."""
    images = np.random.default_rng(seed).random((count, 1, 14, 14)).astype(np.float32)
    return dict.fromkeys(SPLITS, Split(images, getattr(reference, operation)(images, true).astype(np.float32)))


def operators():
    return [operator for method in METHODS for operator in load_recovery_operators(method)]


def named(name):
    return next(operator for operator in operators() if operator.name == name)


def test_the_operators_of_the_question_take_part():
    assert [operator.name for operator in operators()] == [
        "max-plus",
        "variational-learned",
        "variational-annealed",
        "smorph",
        "lmorph",
        "smorph-annealed",
    ]


def test_who_starts_at_the_truth_stays_there():
    target, splits = MorphologicalTarget("dilation", DISK), pairs("dilation", DISK)
    first = np.stack([DISK.clip(-1)] * 2).astype(np.float32)
    for name, bound in (("max-plus", 1e-6), ("variational-annealed", 0.2)):
        found = learn(named(name), target, first, (0, 1), splits, Lesson(20, 4, 5), "cpu")
        assert found.steps_to_success.tolist() == [5, 5], name
        assert found.output_error.max() <= bound, name


def test_seeds_learn_for_themselves():
    target, splits = MorphologicalTarget("closing", STICK), pairs("closing", STICK)
    for operator in operators():
        one, three = (
            learn(operator, target, first_functions("random", (7, 7), seeds), seeds, splits, Lesson(6, 2, 3), "cpu")
            for seeds in (range(1), range(3))
        )
        assert np.allclose(one.structuring_functions[0], three.structuring_functions[0], atol=1e-5), operator.name


def test_the_share_of_the_window_with_gradient_is_one_neighbour_or_all():
    """Of one pixel that is the only one with an error."""
    image = np.random.default_rng(4).random((1, 1, 7, 7)).astype(np.float32)
    label = reference.dilation(image, np.zeros((7, 7))).astype(np.float32)
    label[0, 0, 3, 3] += 0.5
    splits, target = dict.fromkeys(SPLITS, Split(image, label)), MorphologicalTarget("dilation", DISK)
    first = np.zeros((1, 7, 7), dtype=np.float32)
    shares = {
        name: learn(named(name), target, first, (0,), splits, Lesson(1, 1, 1), "cpu").gradient_share[0]
        for name in ("max-plus", "variational-learned")
    }
    assert shares == pytest.approx({"max-plus": 1 / 49, "variational-learned": 1})


def test_every_case_is_a_cell():
    settings = RecoveryStudy().model_dump()
    cells = operator_recovery.cells(settings, "torch", PLUGINS)
    assert len(cells) == len({cell.name for cell in cells}) == 32 * 3 * len(METHODS)
    assert len(list(by_instance(cells))) == 32


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("nowhere", "found 'nowhere', expected a data set"),
        ("operator-recovery.digits-dilation-ring", "expected a variant of operator-recovery"),
    ],
)
def test_pairs_that_are_not_there_are_named(dataset, said):
    with pytest.raises(UserError, match=said):
        operator_recovery.cells(RecoveryStudy(datasets=[dataset]).model_dump(), "torch", PLUGINS)


def test_a_cell_leaves_rows_and_what_was_learned(tmp_path):
    settings = RecoveryStudy(datasets=[VARIANT], initialisations=["zero"], seeds=2, steps=3, batch=2).model_dump()
    cells = operator_recovery.cells(settings, "torch", PLUGINS)
    opened = operator_recovery.open_instance(VARIANT, settings, "torch", "cpu", 1)
    rows = []
    for cell in cells:
        opened.prepare(cell)
        opened.measure(cell)
        rows += opened.rows(cell, Repeated())
    assert len(rows) == 2 * len(operators())
    known = set(operator_recovery.COLUMNS) | {"structuring_function"}
    for row in rows:
        assert set(row) <= known
        assert (row["source"], row["operation"], row["element"]) == ("digits", "dilation", "stick")
        assert np.isfinite(row["output_error"])
    records = [
        dataclasses.make_dataclass("Record", ["cell", "instance", "status", "rows"])(
            cell.name, cell.instance, "ok", [row for row in rows if row["method"] == cell.settings["method"]]
        )
        for cell in cells
    ]
    operator_recovery.collect(pd.DataFrame(rows), records, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(operator_recovery.OUTPUTS)
    with np.load(tmp_path / "recovery_functions.npz") as stored:
        assert np.array_equal(stored[f"{VARIANT}/true"], STICK)
        assert stored["digits-dilation-stick-zero-softmorph/smorph"].shape == (2, 7, 7)
