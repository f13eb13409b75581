"""Importing a plugin, and choosing a variant of it."""

import pytest

from morphobench.contract import InvalidPlugin
from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method


def test_importing_a_plugin_that_fails_says_what_failed(scratch):
    scratch.add_method("coin", code="import nowhere\ndef build(t, p): ...\ndef fit(*a): ...\ndef predict(*a): ...\n")
    with pytest.raises(InvalidPlugin, match=r"coin/method.py: does not import: ModuleNotFoundError.*nowhere"):
        load_method(discover_methods(scratch.root / "methods")["coin"])


@pytest.mark.parametrize("line", ["import layers", "from layers import Layer", "import layers.window"])
def test_a_neighbour_that_is_not_imported_as_one_is_a_hint(scratch, line):
    folder = scratch.add_method("coin", code=f"{line}\ndef build(t, p): ...\ndef fit(*a): ...\ndef predict(*a): ...\n")
    (folder / "layers.py").write_text("class Layer: ...\n")
    with pytest.raises(
        InvalidPlugin, match=r"No module named 'layers'; layers lies beside it: from .layers import ...$"
    ):
        load_method(discover_methods(scratch.root / "methods")["coin"])


def test_a_variant_overrides_the_parameters_of_its_method(scratch):
    path = scratch.add_method("coin") / "method.yaml"
    path.write_text(path.read_text() + "params: {width: 3, depth: 2}\nvariants: {one: , wide: {width: 9}}\n")
    info = discover_methods(scratch.root / "methods")["coin"]
    assert load_method(info, "one").params == {"width": 3, "depth": 2}
    assert load_method(info, "wide").params == {"width": 9, "depth": 2}
    with pytest.raises(InvalidPlugin, match="methods/coin has no variant 'narrow'; it has one, wide"):
        load_method(info, "narrow")
