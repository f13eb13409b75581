"""The report: one file, nothing from outside, everything escaped, every cell with a score or a reason."""

from __future__ import annotations

import dataclasses
import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
import yaml

from morphobench.project.paths import Project, RunFolder, find_project
from morphobench.report.page import inline_svg, write_report
from morphobench.report.results import read_run_results
from morphobench.report.scores import tables as exhibits
from morphobench.report.scores import text as findings
from morphobench.report.solvers import text as cost_findings
from morphobench.statistics import comparisons as statistics

VOID = {"meta", "br", "hr", "img", "link", "input", "path", "use", "rect", "image"}


class Page(HTMLParser):
    """Collects identifiers, addresses, tags and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.tags, self.open = [], [], [], [], []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" and "href" in found else []
        if tag != "a":
            self.loads += [found[key] for key in ("src", "href", "xlink:href", "data") if key in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def html(made_up_run, made_up_figures):
    return write_report(made_up_run, find_project(), made_up_run.report).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.fixture(scope="module")
def results(made_up_run):
    return read_run_results(made_up_run)


def test_tags_are_balanced(page):
    assert page.open == []


def test_identifiers_are_unique(page):
    assert len(page.ids) == len(set(page.ids))


def test_nothing_is_loaded_from_outside(html, page):
    assert all(address.startswith(("#", "data:")) for address in page.loads)
    assert not re.search(r"url\((?!#)|@import|\bfetch\(|XMLHttpRequest", html)


def test_every_link_leads_to_a_section_a_file_beside_the_page_or_a_reference(made_up_run, page):
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        elif link.startswith("tables/"):
            assert (made_up_run.report / link.split("#")[0]).is_file()
        else:
            assert link.startswith(("figures/", "https://doi.org/"))


def test_references_inside_figures_point_to_their_own_figure(page):
    local = [
        address[1:]
        for tag, found in page.tags
        for key, address in found.items()
        if key == "xlink:href" and address[0] == "#"
    ]
    assert local
    assert set(local) <= set(page.ids)


def test_what_plugins_and_failures_say_is_escaped(html, page):
    assert "<b>bad</b>" not in html
    assert "ValueError: <b>bad</b> input & more" in page.text
    assert "Majority <class> & co" in page.text


def test_figures_have_a_label_and_tables_a_caption(page):
    figures = [found for tag, found in page.tags if tag == "svg"]
    assert figures
    assert all(found.get("role") == "img" and found.get("aria-label") for found in figures)
    names = [tag for tag, _ in page.tags]
    assert names.count("table") == names.count("caption")


def test_no_cell_of_the_coverage_is_empty(results):
    table = exhibits.coverage(results)
    assert len(table.rows) == len(results.entries)
    assert all(cell.text for row in table.rows for cell in row)
    texts = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    columns = dict(zip(results.dataset_names, range(5), strict=True))
    assert texts["U-Net"][columns["vessels"]] == "out of memory 6 of 6 seeds"
    assert texts["U-Net"][columns["digits"]] == "not its task"
    assert texts["ResNet-18"][columns["mnist5k"]] == "not run here"
    assert texts["Chance"][columns["medmnist.breast"]] == "not available"
    assert re.fullmatch(r"0\.\d{3}; diverged 2 of 6 seeds", texts["Backbone, max-plus"][columns["vessels"]])


def test_every_status_is_among_the_failures(results):
    found = {row[0].text for row in exhibits.failures(results).rows}
    assert found == {"timeout", "error", "diverged", "out of memory", "invalid", "unavailable"}


def test_a_row_link_names_the_row_of_the_csv(made_up_run, results):
    means = pd.read_csv(made_up_run.statistics / "means.csv")
    for row in exhibits.scores(results, "vessels").rows:
        position = int(re.search(r"#row=(\d+)$", row[-1].link).group(1)) - 2
        assert means.loc[position, "dataset"] == "vessels"
        assert results.methods[means.loc[position, "method"]]["title"] in row[0].text


def test_a_lost_comparison_is_called_lost_with_its_interval(results):
    row = {"dataset": "digits", "method": "backbone-variational", "variant": "default", "metric": "accuracy"}
    row |= {"difference": -0.02, "low": -0.03, "high": -0.01, "seeds": 6, "interval": "", "baseline": "b"}
    sentence = findings.difference_sentence(results, row)
    assert "difference −0.0200 [−0.0300, −0.0100] over 6 paired seeds (lower, the interval excludes zero)" in sentence
    undecided = findings.difference_sentence(results, row | {"high": 0.01})
    assert "the interval contains zero" in undecided
    lonely = findings.difference_sentence(results, row | {"low": float("nan"), "interval": "one seed"})
    assert "no interval: one seed" in lonely


def test_the_answer_counts_the_intervals_and_claims_nothing(results):
    answer = findings.short_answer(results)
    rows = findings.variational_differences(results)
    above = sum(row["low"] > 0 for row in rows)
    below = sum(row["high"] < 0 for row in rows)
    assert f"in {above} it lies above zero" in answer[0]
    assert f"in {below} it lies below zero" in answer[0]
    assert answer[1].startswith("No significance is claimed. With 6 seeds and 6 comparisons")
    assert "needs 8 seeds" in answer[1]


def test_cpu_timings_are_called_that(results):
    said = "No GPU was used: all times of operators are CPU times, and no kernel has been timed on a GPU."
    assert cost_findings.device_sentences(results) == [said]
    gpu = dataclasses.replace(results, solvers=results.solvers.assign(device="NVIDIA H100", backend="tensor"))
    assert cost_findings.device_sentences(gpu)[0].startswith("No kernel has been timed on a GPU")
    kernels = dataclasses.replace(gpu, solvers=gpu.solvers.assign(backend="kernels"))
    assert cost_findings.device_sentences(kernels) == []


def test_ratios_are_said_with_their_bars_and_the_farthest_over_its_bar_is_named(results):
    own, peers, growth = cost_findings.ratio_sentences(results)
    assert own == (
        "Timed in turn with what it replaces, variational dilation 3×3 takes, forward and backward, "
        "1.9 times a depthwise Conv2d, contiguous (bar 2.2) and "
        "1.25 times a depthwise Conv2d, channels last (bar 2.2)."
    )
    assert "3 of 4 ratios to a peer; farthest over it: dilation, non-flat 3×3 over kornia, unfold" in peers
    assert peers.endswith("0.06 (bar 0.03).")
    assert "1 of 2 ratios of a larger window to 3×3" in growth


def test_ratios_stand_in_the_section_on_cost(page):
    assert page.ids.index("solvers") < page.ids.index("figure-ratios") < page.ids.index("known")
    assert "Timed in turn with what it replaces" in page.text


def test_friedman_says_why_it_was_not_made(page):
    assert "not tested: 4 data sets, 5 needed" in page.text


def test_a_dirty_checkout_is_said(page):
    assert "Tracked files differed from this commit" in page.text


def test_the_report_needs_its_figures(made_up_run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"figures\.json: no such file; draw the figures first"):
        write_report(made_up_run, find_project(), tmp_path)


def test_an_empty_run_still_gives_a_page(tmp_path):
    run = Project(tmp_path).run("empty")
    figures = run.report / "figures"
    figures.mkdir(parents=True)
    (figures / "figures.json").write_text(
        '[{"name": "scores", "title": "T", "drawn": false, "reason": "no trial has a score"}]'
    )
    page = Page(write_report(run, find_project(), run.report).read_text())
    assert "T was not drawn: no trial has a score." in page.text
    assert "There is no comparison" in page.text


def test_runs_are_merged_with_a_column_run(made_up_run, tmp_path):
    for name in ("main", "gpu"):
        target = tmp_path / "results" / name
        shutil.copytree(made_up_run.results, target, ignore=shutil.ignore_patterns("trials", "statistics"))
        for table in ("trials", "scores"):
            path = target / "tables" / f"{table}.csv"
            content = pd.read_csv(path).assign(run=name)
            keep = content["dataset"].eq("vessels") if name == "gpu" else content["dataset"].ne("vessels")
            content[keep].to_csv(path, index=False)
    config = yaml.safe_load((tmp_path / "results" / "main" / "config.yaml").read_text())
    config["report"]["include"] = ["gpu"]
    (tmp_path / "results" / "main" / "config.yaml").write_text(yaml.safe_dump(config))
    run = RunFolder(tmp_path / "results" / "main", tmp_path / "reports" / "main")
    statistics.compare_methods(run.tables, run.statistics, config)
    (run.report / "figures").mkdir(parents=True)
    (run.report / "figures" / "figures.json").write_text("[]")
    page = Page(write_report(run, find_project(), run.report).read_text())
    assert "merged with gpu" in page.text
    trials = pd.read_csv(run.report / "tables" / "trials.csv")
    assert set(trials.loc[trials["dataset"] == "vessels", "run"]) == {"gpu"}
    assert set(pd.read_csv(run.statistics / "means.csv")["dataset"]) >= {"digits", "vessels"}


def test_inlined_svgs_do_not_share_identifiers():
    svg = '<?xml version="1.0"?><svg width="9pt"><defs><clipPath id="p"/></defs><g clip-path="url(#p)"/></svg>'
    one, two = (str(inline_svg(svg, name, 'says "x"')) for name in ("one", "two"))
    assert 'id="one-p"' in one
    assert "url(#one-p)" in one
    assert 'id="two-p"' in two
    assert "says &#34;x&#34;" in one
