"""Checks that every file in schemas/examples is what schemas/webhook.schema.json describes."""

import json
import pathlib
import sys

import jsonschema

schemas = pathlib.Path(sys.argv[1])
schema = json.loads((schemas / "webhook.schema.json").read_text())
jsonschema.Draft202012Validator.check_schema(schema)
check = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
examples = sorted((schemas / "examples").glob("*.json"))
wrong = [
    f"{example.name}: {error.json_path}: {error.message}"
    for example in examples
    for error in check.iter_errors(json.loads(example.read_text()))
]
if wrong or not examples:
    sys.exit("\n".join(wrong) or "no examples")
print(f"{len(examples)} examples")
