"""Figure, table and sentences of scores on corrupted images, from made-up numbers."""

from dataclasses import replace

import pandas as pd
import pytest

from morphobench.evaluation.robustness import COLUMNS
from morphobench.report.results import read_run_results
from morphobench.report.robustness.figures import draw_noise, draw_robustness
from morphobench.report.robustness.tables import robustness
from morphobench.report.robustness.text import noise_sentences, robustness_sentences
from morphobench.report.style import Absent, drawing_style


def with_rows(results, rows):
    return replace(results, tables={"robustness": rows})


@pytest.fixture(scope="module")
def results(made_up_run):
    """Scores that fall by .1 a severity under salt and pepper, and by a tenth of that under blur, but for one method."""
    found = read_run_results(made_up_run)
    dataset = next(name for name in found.dataset_names if found.task(name) == "classification")
    tried = found.trials[(found.trials["dataset"] == dataset) & (found.trials["status"] == "ok")]
    rows = []
    for place, (method, variant) in enumerate(
        sorted(set(tried[["method", "variant"]].itertuples(index=False, name=None)))
    ):
        shared = {"run": found.run, "dataset": dataset, "task": "classification", "method": method, "variant": variant}
        shared |= {"metric": "accuracy", "status": "ok", "message": ""}
        slope = 0.01 * (place + 1)
        for seed in (0, 1):
            for corruption, severity, loss in (
                ("none", 0, 0.0),
                ("salt-and-pepper", 1, slope),
                ("salt-and-pepper", 3, 3 * slope),
                ("blur", 1, 0.1 * slope),
                ("blur", 3, 0.3 * slope),
            ):
                value = 0.9 + 0.01 * seed - loss
                rows.append(
                    {
                        **shared,
                        "seed": seed,
                        "corruption": corruption,
                        "severity": severity,
                        "strength": severity,
                        "value": value,
                    }
                )
    return with_rows(found, pd.DataFrame(rows, columns=COLUMNS))


def test_the_table_holds_the_mean_loss_of_every_corruption(results):
    table = robustness(results)
    assert list(table.columns) == ["Method", "Data set", "Metric", "Clean", "Salt and pepper", "Blur", "All"]
    clean, salt, blur, whole = (cell.sort for cell in table.rows[0][3:])
    assert clean == pytest.approx(0.905)
    assert blur == pytest.approx(salt / 10)
    assert whole == pytest.approx((salt + blur) / 2)
    assert [row[-1].sort for row in table.rows] == sorted(row[-1].sort for row in table.rows)


def test_noise_has_columns_and_a_figure_of_its_own_and_is_not_among_all(results):
    rows = results.tables["robustness"]
    clean = rows[rows["severity"] == 0]
    noisy = [
        clean.assign(
            corruption="normal-noise", severity=level, strength=0.1 * level, value=clean["value"] - 0.2 * level
        )
        for level in (1, 2)
    ]
    found = with_rows(results, pd.concat([rows, *noisy], ignore_index=True))
    table = robustness(found)
    assert table.columns[-2:] == ["Normal noise", "All"]
    assert [row[-2].sort for row in table.rows] == pytest.approx([0.3] * len(table.rows))
    assert [row[-1].sort for row in table.rows] == [row[-1].sort for row in robustness(results).rows]
    with drawing_style():
        drawing = draw_noise(found)
    assert list(drawing.figure.get_axes()[0].get_lines()[0].get_xdata()) == pytest.approx([0, 0.1, 0.2])
    assert "at 3 levels" in drawing.caption
    assert "0.605" in noise_sentences(found)[0]
    assert isinstance(draw_noise(results), Absent)


def test_controls_are_left_out_and_the_figure_is_drawn(results):
    shown = {row[0].text for row in robustness(results).rows}
    assert shown == {results.title(entry) for entry in results.entries if not results.is_control(entry)} & shown
    with drawing_style():
        drawing = draw_robustness(results)
    panels = drawing.figure.get_axes()
    assert [panel.get_title() for panel in panels] == ["salt and pepper", "blur"]
    assert len(panels[0].get_lines()) == len(shown)
    assert list(panels[0].get_lines()[0].get_xdata()) == [0, 1, 3]


def test_the_sentence_names_who_loses_least_and_most(results):
    rows = robustness(results).rows
    (sentence,) = robustness_sentences(results)
    assert f"least by “{rows[0][0].text}”" in sentence
    assert f"most by “{rows[-1][0].text}”" in sentence


def test_a_model_that_could_not_be_tried_is_named(results):
    failed = results.tables["robustness"].iloc[:1].assign(status="error", message="KeyError: no weights", value=None)
    broken = with_rows(results, failed)
    assert "KeyError: no weights" in robustness_sentences(broken)[0]
    assert isinstance(draw_robustness(broken), Absent)
    assert not robustness(broken).rows


def test_a_run_without_corrupted_images_has_neither(results):
    nothing = with_rows(results, pd.DataFrame(columns=COLUMNS))
    assert isinstance(draw_robustness(nothing), Absent)
    assert not robustness(nothing).rows
    assert robustness_sentences(nothing) == []
