"""The JSON schemas, which are the documentation of the files that people write."""

import pytest
import yaml

from morphobench.settings.schemas import schemas


def test_the_written_schemas_agree_with_the_models(project):
    written = {path.name: path.read_text(encoding="utf-8") for path in project.schemas.glob("*")}
    assert written == schemas(), "the models have changed: run python -m morphobench schemas"


def keys(schema, place=""):
    """Yield every key of a schema with its dotted path."""
    for name, part in schema.get("properties", {}).items():
        yield f"{place}{name}", part
        yield from keys(part, f"{place}{name}.")
        yield from keys(part.get("items", {}), f"{place}{name}.")


@pytest.mark.parametrize("name", schemas())
def test_every_key_is_described(name):
    undescribed = {
        place for place, part in keys(yaml.safe_load(schemas()[name])) if not part.get("description", "").endswith(".")
    }
    assert undescribed <= {f"timings.{phase}_s" for phase in ("import", "compile", "fit", "predict")}


def test_a_schema_says_type_default_and_range_of_the_keys_of_a_study():
    found = dict(keys(yaml.safe_load(schemas()["config.schema.yaml"])))
    assert found["studies.gradients.image_sizes"] == {
        "description": "Sides of the images; at the first everything else is varied.",
        "type": "array",
        "default": [16],
        "items": {"type": "integer", "minimum": 4, "maximum": 256},
        "minItems": 1,
    }
    assert found["budget.steps_per_epoch"]["type"] == ["integer", "null"]


def test_the_command_writes_them(scratch):
    folder = scratch.root / "workflows" / "schemas"
    (folder / "config.schema.yaml").write_text("out of date\n")
    done = scratch.morphobench("schemas")
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*")} == schemas()
