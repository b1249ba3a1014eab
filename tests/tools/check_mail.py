"""Parses a mail with Python's own parser and prints what it makes of it, as JSON."""

import email
import email.policy
import json
import pathlib
import sys

mail = email.message_from_bytes(pathlib.Path(sys.argv[1]).read_bytes(), policy=email.policy.default)
parts = [part for part in mail.walk() if not part.is_multipart()]
print(
    json.dumps(
        {
            "headers": [[name, str(value)] for name, value in mail.items()],
            "from": [address.addr_spec for address in mail["From"].addresses],
            "to": [[address.display_name, address.addr_spec] for address in mail["To"].addresses],
            "date": mail["Date"].datetime.isoformat(),
            "type": mail.get_content_type(),
            "parts": [
                {
                    "type": part.get_content_type(),
                    "charset": part.get_content_charset(),
                    "content": part.get_content().replace("\r\n", "\n"),
                }
                for part in parts
            ],
            "defects": [repr(d) for part in mail.walk() for d in part.defects]
            + [repr(d) for value in mail.values() for d in getattr(value, "defects", ())],
        }
    )
)
