"""What each study may be asked for."""

from pathlib import Path

import pytest

import morphobench.studies
from morphobench.project.errors import UserError
from morphobench.settings.reading import check
from morphobench.settings.run import Configuration
from morphobench.settings.studies import Studies


def read(studies):
    return check(Configuration, {"run": "try", "datasets": ["toy"], "studies": studies}, "config.yaml")


def test_given_settings_override_the_defaults():
    found = read({"solvers": {"image_sizes": [8], "couplings": [2]}}).settings_of_studies()
    defaults = read({"solvers": {}}).settings_of_studies()
    assert found == {"solvers": defaults["solvers"] | {"image_sizes": [8], "couplings": [2]}}
    assert isinstance(found["solvers"]["couplings"][0], int)  # a cell's settings are as they were written


def test_a_study_without_keys_takes_every_default_and_one_that_is_absent_is_not_run():
    assert read({"nonsmooth": None}).settings_of_studies() == read({"nonsmooth": {}}).settings_of_studies()
    assert read({}).settings_of_studies() == {}


def test_every_study_has_settings():
    packages = {path.parent.name for path in Path(morphobench.studies.__path__[0]).glob("*/study.py")}
    assert set(Studies.model_fields) == packages | {"benchmarks"}


@pytest.mark.parametrize(
    ("study", "given", "message"),
    [
        ("solvers", {"size": [8]}, "unknown key 'size' in 'studies.solvers'; expected one of: batch, cell_s"),
        ("solvers", {"image_sizes": 8}, "key 'studies.solvers.image_sizes': found 8, expected array"),
        (
            "solvers",
            {"frameworks": ["keras"]},
            "key 'studies.solvers.frameworks.0': found 'keras', expected one of torch",
        ),
        (
            "solvers",
            {"image_sizes": [8.5]},
            "key 'studies.solvers.image_sizes.0': found 8.5, expected integer (Sides of",
        ),
        ("solvers", {"repeats": "many"}, "key 'studies.solvers.repeats': found 'many', expected integer"),
        ("solvers", {"repeats": True}, "key 'studies.solvers.repeats': found True, expected integer"),
        ("solvers", {"repeats": 0}, "key 'studies.solvers.repeats': found 0, expected at least 1"),
        (
            "solvers",
            {"dtype": "float16"},
            "key 'studies.solvers.dtype': found 'float16', expected one of float32, float64",
        ),
        ("solvers", {"kernel_sizes": [4]}, "key 'studies.solvers.kernel_sizes.0': found 4, expected an odd size"),
        (
            "solvers",
            {"jax_kernel_sizes": [2]},
            "key 'studies.solvers.jax_kernel_sizes.0': found 2, expected an odd size",
        ),
        ("solvers", {"solvers": ["simplex"]}, "found 'simplex', expected one of newton, fixed-point"),
        ("solvers", {"peers": ["keras"]}, "key 'studies.solvers.peers.0': found 'keras', expected one of torchdeq"),
        (
            "gradients",
            {"data": ["noise"]},
            "key 'studies.gradients.data.0': found 'noise', expected one of random, image, ties",
        ),
        (
            "gradients",
            {"image_sizes": [16, 1000]},
            "key 'studies.gradients.image_sizes.1': found 1000, expected at most 256",
        ),
        ("gradients", {"steps": [0.1]}, "key 'studies.gradients.steps': found 0.1, expected less than 0.1"),
        ("gradients", {"couplings": []}, "key 'studies.gradients.couplings': found [], expected at least 1 of them"),
        ("gradients", {"etas": [0.0]}, "key 'studies.gradients.etas.0': found 0.0, expected more than 0"),
        ("recovery", {"initialisations": ["ones"]}, "found 'ones', expected one of random, zero, near-identity"),
        ("recovery", {"seeds": 0}, "key 'studies.recovery.seeds': found 0, expected at least 1"),
        ("recovery", {"frameworks": ["jax"]}, "key 'studies.recovery.frameworks.0': found 'jax', expected torch"),
        ("nonsmooth", {"layers": ["ridge"]}, "found 'ridge', expected one of lasso"),
        ("nonsmooth", {"factors": [0.5]}, "key 'studies.nonsmooth.factors.0': found 0.5, expected at least 1"),
        ("nonsmooth", {"distances": [-1.0]}, "key 'studies.nonsmooth.distances.0': found -1.0, expected at least 0"),
        ("nonsmooth", {"smoothings": [0.0]}, "key 'studies.nonsmooth.smoothings.0': found 0.0, expected more than 0"),
        ("nonsmooth", {"frameworks": ["jax"]}, "key 'studies.nonsmooth.frameworks.0': found 'jax', expected torch"),
        ("benchmarks", {"seconds": 0}, "key 'studies.benchmarks.seconds': found 0, expected more than 0 (Time that"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(study, given, message):
    with pytest.raises(UserError) as caught:
        read({study: given})
    assert str(caught.value).startswith("config.yaml: ")
    assert message in str(caught.value)
