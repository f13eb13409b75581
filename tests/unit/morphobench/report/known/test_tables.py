"""A run beside published values."""

import shutil

from morphobench.project.paths import RunFolder
from morphobench.report.known.tables import published
from morphobench.report.results import read_run_results
from morphobench.statistics.references import check_published

HEADER = "dataset,method,metric,value,deviation,tolerance,reference,source\n"


def test_every_reference_is_named_and_the_verdict_says_by_how_much_a_mean_lies_beyond(made_up_run, tmp_path):
    folder = tmp_path / "datasets" / "digits"
    folder.mkdir(parents=True)
    rows = ["linear,accuracy,0.1,,0.01,A 2023,a", "linear,accuracy,0.8,0.3,0.01,B 2025,b"]
    rows += ["resnet18,accuracy,0.1,0.05,0.01,A 2023,a", "resnet18,accuracy,0.2,,0.01,B 2025,b"]
    (folder / "published.csv").write_text(HEADER + "".join(f"digits,{row}\n" for row in rows))
    run = RunFolder(shutil.copytree(made_up_run.results, tmp_path / "results" / "made-up"), made_up_run.report)
    check_published(run.tables, folder.parent, run.statistics)
    table = published(read_run_results(run))
    linear, resnet = table.rows
    assert (linear[3].text, linear[8].text) == ("A 2023: 0.1; B 2025: 0.8 ± 0.3", "a; b")
    assert (linear[5].text, linear[7].text, linear[7].kind) == ("0.0000", "within the spread of published values", "ok")
    assert resnet[3].text == "A 2023: 0.1 ± 0.05; B 2025: 0.2"
    assert resnet[7].text == f"{resnet[5].text[1:]} above the spread of published values"
    assert resnet[7].kind == "failed"
