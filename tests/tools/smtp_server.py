"""A real mail server for the tests: aiosmtpd, with faults on demand.

Prints {"port": N} once it listens, and ends when its standard input does.

Each message that reaches the end of DATA is written to --folder as NNNN.eml with NNNN.json beside it (envelope,
whether TLS was used, who was logged in, and the reply). --script is JSON:
  {"rcpt": [["regex", "550 5.1.1 no such mailbox"], ...],    the first that matches an address answers it; a third
                                                             element says for how many times
   "max_recipients": 30,                                     in a transaction; further ones get 452
   "mail": ["451 4.3.0 later", ...],                          for the first MAILs, one after another
   "data": ["close", "451 4.3.0 later", "hang", null, ...]}   for the first messages; null and the rest: taken

With --xoauth2 FILE the one login is a token (XOAUTH2), as at Exchange Online. FILE is JSON, read at each login:
  {"user": "vetting@contoso.example", "tokens": ["..."]}      the mailbox, and the tokens that are good now;
  "tokens": "any" takes every one
A refused one gets a challenge that says why, and the answer to that must be empty, as the protocol says.
"""

import argparse
import asyncio
import base64
import json
import os
import pathlib
import re
import ssl
import sys
import threading

from aiosmtpd.smtp import SMTP, AuthResult


class Handler:
    def __init__(self, folder, script):
        self.folder = folder
        self.rcpt = [[re.compile(rule[0]), rule[1], rule[2] if len(rule) > 2 else None] for rule in script.get("rcpt", [])]
        self.mail = list(script.get("mail", []))
        self.data = list(script.get("data", []))
        self.max_recipients = script.get("max_recipients")
        self.count = 0

    async def handle_MAIL(self, server, session, envelope, address, options):
        reply = self.mail.pop(0) if self.mail else None
        if reply:
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 sender ok"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.max_recipients and len(envelope.rcpt_tos) >= self.max_recipients:
            return "452 4.5.3 Error: too many recipients"
        for rule in self.rcpt:
            pattern, reply, times = rule
            if times != 0 and pattern.search(address):
                if times:
                    rule[2] -= 1
                return reply
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 recipient ok"

    async def handle_DATA(self, server, session, envelope):
        fault = self.data.pop(0) if self.data else None
        self.count += 1
        name = f"{self.count:04}"
        (self.folder / f"{name}.eml").write_bytes(envelope.original_content)
        about = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None or server._over_ssl,
            "login": session.auth_data.decode() if session.authenticated else None,
            "connection": session.peer[1],
            "reply": fault,
        }
        unfinished = self.folder / f"{name}.tmp"
        unfinished.write_text(json.dumps(about))
        os.rename(unfinished, self.folder / f"{name}.json")  # once visible, both can be read
        if fault == "close":
            server.transport.abort()
            return "250 nobody hears this"
        if fault == "hang":
            await asyncio.sleep(3600)
        return fault or f"250 2.0.0 queued as {name}"


class TokenHandler(Handler):
    """Takes XOAUTH2, and looks at both the user and the token."""

    def __init__(self, folder, script, good):
        super().__init__(folder, script)
        self.good = good

    async def auth_XOAUTH2(self, server, args):
        good = json.loads(self.good.read_text())
        said = base64.b64decode(args[1], validate=True).decode()
        begin = f"user={good['user']}\x01auth=Bearer "
        if good["tokens"] == "any" and said.startswith(begin) and said.endswith("\x01\x01"):
            return AuthResult(success=True, auth_data=good["user"].encode())
        if said in [f"user={good['user']}\x01auth=Bearer {token}\x01\x01" for token in good["tokens"]]:
            return AuthResult(success=True, auth_data=good["user"].encode())
        why = {"status": "401", "schemes": "bearer", "scope": "https://outlook.office365.com/.default"}
        answer = await server.challenge_auth(json.dumps(why))
        if answer != b"":
            return AuthResult(success=False, handled=False, message="501 5.5.2 the answer to a refusal is empty")
        return AuthResult(success=False, handled=False, message="535 5.7.3 Authentication unsuccessful")


def authenticator(user, password):
    def check(server, session, envelope, mechanism, data):
        given = (data.login.decode(), data.password.decode())
        if given == (user, password):
            return AuthResult(success=True, auth_data=data.login)
        return AuthResult(success=False, handled=False)

    return check


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--folder", type=pathlib.Path, required=True)
    arguments.add_argument("--tls", choices=["none", "starttls", "implicit"], default="none")
    arguments.add_argument("--cert")
    arguments.add_argument("--key")
    arguments.add_argument("--user")
    arguments.add_argument("--password")
    arguments.add_argument("--xoauth2", type=pathlib.Path)
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--script", type=json.loads, default={})
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)

    options = {"hostname": "localhost", "ident": "test peer"}
    secured = None
    if given.tls != "none":
        secured = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        secured.load_cert_chain(given.cert, given.key)
    if given.tls == "starttls":
        options |= {"tls_context": secured, "require_starttls": True}
    if given.user:
        options |= {
            "authenticator": authenticator(given.user, given.password),
            "auth_required": True,
            "auth_require_tls": given.tls == "starttls",
        }
    handler = Handler(given.folder, given.script)
    if given.xoauth2:
        handler = TokenHandler(given.folder, given.script, given.xoauth2)
        options |= {
            "auth_required": True,
            "auth_require_tls": given.tls == "starttls",
            "auth_exclude_mechanism": ["PLAIN", "LOGIN"],
        }
        SMTP.line_length_limit = SMTP.command_size_limit = 12288  # RFC 4954: AUTH may be that long, and tokens are

    async def serve():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(handler, **options),
            "127.0.0.1",
            given.port,
            ssl=secured if given.tls == "implicit" else None,
        )
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        ended = asyncio.Event()

        def watch():
            sys.stdin.buffer.read()
            loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=watch, daemon=True).start()
        await ended.wait()

    asyncio.run(serve())
    os._exit(0)  # a hung message must not hold it


if __name__ == "__main__":
    main()
