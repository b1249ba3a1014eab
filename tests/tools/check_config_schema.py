"""Checks that schemas/vetwatch.toml.schema.json accepts each configuration in a folder, and the shipped example."""

import json
import pathlib
import sys
import tomllib

import jsonschema

repository, folder = pathlib.Path(__file__).parents[2], pathlib.Path(sys.argv[1])
schema = json.loads((repository / "schemas/vetwatch.toml.schema.json").read_text())
jsonschema.Draft202012Validator.check_schema(schema)
check = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
files = [repository / "deploy/vetwatch.toml", *sorted(folder.glob("*.toml"))]
wrong = [
    f"{file.name}: {error.json_path}: {error.message}"
    for file in files
    for error in check.iter_errors(tomllib.loads(file.read_text()))
]
if wrong or len(files) < 2:
    sys.exit("\n".join(wrong) or "no configurations")
print(f"{len(files)} configurations")
