"""Figure, table and sentences of certified accuracy, from made-up numbers."""

from dataclasses import replace

import pandas as pd
import pytest

from morphobench.evaluation.certification import COLUMNS
from morphobench.report.certified.figures import draw_certified
from morphobench.report.certified.tables import certified
from morphobench.report.certified.text import answer, certified_sentences
from morphobench.report.results import read_run_results
from morphobench.report.style import Absent, drawing_style


@pytest.fixture(scope="module")
def made(made_up_run):
    """Return a function that gives the results with the certified accuracy of two methods: the first ahead at 0.1, not at 0.2."""
    found = read_run_results(made_up_run)
    dataset = next(name for name in found.dataset_names if found.task(name) == "classification")
    tried = found.trials[(found.trials["dataset"] == dataset) & (found.trials["status"] == "ok")]
    families = {family: rows.iloc[0] for family, rows in tried.groupby("family") if family != "control"}
    first = families.pop("variational")
    other = next(iter(families.values()))
    rows = []
    for method, shares in ((first, {0.1: 0.8, 0.2: 0.4}), (other, {0.1: 0.7, 0.2: 0.42})):
        shared = {"run": found.run, "dataset": dataset, "task": "classification", "method": method["method"]}
        shared |= {
            "variant": method["variant"],
            "images": 100,
            "clean": 0.95,
            "proofs_attacked": 10,
            "proofs_broken": 0,
        }
        for seed in (0, 1):
            for epsilon, share in shares.items():
                proven = share + 0.02 * seed
                numbers = {"seed": seed, "epsilon": epsilon, "certified": proven, "attacked": proven + 0.1}
                rows.append({**shared, **numbers, "status": "ok", "message": ""})

    def results(change=lambda table: table):
        return replace(found, tables={"certified": change(pd.DataFrame(rows, columns=COLUMNS))})

    return results


def test_the_table_has_a_row_for_each_method_and_epsilon(made):
    table = certified(made())
    assert len(table.rows) == 4
    assert [row[4].sort for row in table.rows] == pytest.approx([0.81, 0.41, 0.71, 0.43])
    assert "[0.800, 0.820]" in table.rows[0][4].text


def test_sentences_say_where_the_variational_network_leads_and_where_not(made):
    said = " ".join(certified_sentences(made()))
    assert "highest certified accuracy is 0.810 at 0.1" in said
    assert "every seed of the best variational network is ahead of every seed of the best other one at 0.1" in said
    assert "at 0.2 (0.410 against 0.430)" in said
    assert "Of 80 proofs that were attacked" in said
    assert len(answer(made())) == 1


def test_networks_that_give_one_answer_for_all_images_are_named(made):
    results = made()
    assert "one answer for all images" not in " ".join(certified_sentences(results))
    first = results.tables["certified"].iloc[0]
    rows = results.means[(results.means["dataset"] == first["dataset"]) & (results.means["metric"] == "accuracy")]
    common = rows[rows["method"] == first["method"]].assign(method="majority", variant="default")
    said = " ".join(certified_sentences(replace(results, means=pd.concat([results.means, common]))))
    assert "are right no more often than the commonest class is" in said


def test_a_false_proof_comes_first_and_takes_the_method_out(made):
    def change(table):
        table.loc[0, ["status", "message"]] = "error", "false proof at epsilon 0.1: test images [3] are proven"
        return table

    results = made(change)
    assert "false proof at epsilon 0.1" in answer(results)[0].sentence
    assert len(certified(results).rows) == 2


def test_the_figure_is_drawn_or_absent_with_a_reason(made):
    with drawing_style():
        drawing = draw_certified(made())
    assert not isinstance(drawing, Absent)
    axis = drawing.figure.axes[0]
    assert axis.lines[0].get_xdata().tolist() == [0.0, 0.1, 0.2]
    assert axis.lines[0].get_ydata().tolist() == pytest.approx([0.95, 0.81, 0.41])
    assert isinstance(draw_certified(made(lambda table: table.iloc[:0])), Absent)
