"""Writes ca.pem (a test CA) and server.pem, server.key (localhost and 127.0.0.1, signed by it) into a folder."""

import pathlib
import sys

import trustme

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
ca = trustme.CA()
server = ca.issue_cert("localhost", "127.0.0.1")
ca.cert_pem.write_to_path(str(folder / "ca.pem"))
server.private_key_pem.write_to_path(str(folder / "server.key"))
for index, certificate in enumerate(server.cert_chain_pems):
    certificate.write_to_path(str(folder / "server.pem"), append=index > 0)
