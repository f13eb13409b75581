"""The report: one file, nothing from outside, everything escaped, every cell with a score or a reason."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
import yaml

from morphobench.project.files import write_table
from morphobench.project.paths import Project, RunFolder
from morphobench.report.page import inline_svg, write_report
from morphobench.statistics.comparisons import compare_methods

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
    return write_report(made_up_run, made_up_run.report).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


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


def test_ratios_stand_in_the_section_on_cost(page):
    assert page.ids.index("solvers") < page.ids.index("figure-ratios") < page.ids.index("known")
    assert "Timed in turn with what it replaces" in page.text


def test_friedman_says_why_it_was_not_made(page):
    assert "not tested: 4 data sets, 5 needed" in page.text


def test_a_dirty_checkout_is_said(page):
    assert "Tracked files differed from this commit" in page.text


def test_the_report_needs_its_figures(made_up_run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"figures\.json: no such file; draw the figures first"):
        write_report(made_up_run, tmp_path)


def test_an_empty_run_still_gives_a_page(tmp_path):
    run = Project(tmp_path).run("empty")
    figures = run.report / "figures"
    figures.mkdir(parents=True)
    (figures / "figures.json").write_text(
        '[{"section": "scores", "name": "scores", "title": "T", "drawn": false, "reason": "no trial has a score"}]'
    )
    page = Page(write_report(run, run.report).read_text())
    assert "T was not drawn: no trial has a score." in page.text
    assert "There is no comparison" in page.text


def test_runs_are_merged_with_a_column_run(made_up_run, tmp_path):
    for name in ("main", "gpu"):
        target = tmp_path / "results" / name
        shutil.copytree(made_up_run.results, target, ignore=shutil.ignore_patterns("trials", "statistics"))
        for table in ("trials", "scores"):
            path = target / "tables" / table
            content = pd.read_parquet(path.with_suffix(".parquet")).assign(run=name)
            keep = content["dataset"].eq("vessels") if name == "gpu" else content["dataset"].ne("vessels")
            write_table(path, content[keep])
    config = yaml.safe_load((tmp_path / "results" / "main" / "config.yaml").read_text())
    config["report"]["include"] = ["gpu"]
    (tmp_path / "results" / "main" / "config.yaml").write_text(yaml.safe_dump(config))
    run = RunFolder(tmp_path / "results" / "main", tmp_path / "reports" / "main")
    compare_methods(run.tables, run.statistics, config)
    (run.report / "figures").mkdir(parents=True)
    (run.report / "figures" / "figures.json").write_text("[]")
    page = Page(write_report(run, run.report).read_text())
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


def test_what_every_table_beside_the_page_holds_is_said(html, made_up_run):
    names = [path.name for path in (made_up_run.report / "tables").glob("*.csv")]
    assert names
    assert [name for name in names if f'<li><a href="tables/{name}">{name}</a>: ' not in html] == []
