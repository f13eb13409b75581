import pytest

from morphobench.settings.studies import COMMON, read_settings

DEFAULTS = {"sizes": [16, 32], "levels": [1.0], "repeats": 3, "dtype": "float32"}


def test_given_settings_override_the_defaults():
    assert read_settings("solvers", {"sizes": [8], "levels": [2]}, DEFAULTS) == {
        **COMMON,
        **DEFAULTS,
        "sizes": [8],
        "levels": [2],
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": [8]}, r"studies\.solvers\.size: unknown key; expected one of dtype, frameworks, levels"),
        ({"sizes": 8}, r"studies\.solvers\.sizes: found 8, expected a list"),
        ({"frameworks": ["torch", "keras"]}, r"studies\.solvers\.frameworks: found 'keras', expected torch or jax"),
        ({"sizes": [8.5]}, r"studies\.solvers\.sizes: found \[8\.5\]"),
        ({"repeats": "many"}, r"studies\.solvers\.repeats: found 'many', expected a whole number"),
        ({"repeats": True}, r"studies\.solvers\.repeats: found True"),
        ({"dtype": 32}, r"studies\.solvers\.dtype: found 32, expected text"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        read_settings("solvers", given, DEFAULTS)
