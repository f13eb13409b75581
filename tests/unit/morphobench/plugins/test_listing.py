"""What the command line says of the plugins."""

import pytest

PLAIN = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("locale", [PLAIN, {"LC_ALL": "C.UTF-8"}])
def test_titles_in_any_letters_are_listed_in_every_locale(scratch, monkeypatch, locale):
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    for path in (scratch.add_method("coin") / "method.yaml", scratch.add_dataset("toy") / "dataset.yaml"):
        path.write_text(path.read_text(encoding="utf-8").replace("Toy", "Médiane – 中値"), encoding="utf-8")
    done = scratch.morphobench("list", encoding="utf-8")
    assert done.returncode == 0, done.stderr
    shown = r"M\xe9diane \u2013 \u4e2d\u5024" if locale is PLAIN else "Médiane – 中値"
    assert f"{shown} coin" in done.stdout
    assert f"{shown} toy" in done.stdout
