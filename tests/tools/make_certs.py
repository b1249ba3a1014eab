"""Writes a test CA and what it signed into a folder.

ca.pem; server.pem, server.key: localhost, 127.0.0.1, crm.example and Microsoft's hosts; expired.pem, expired.key: localhost, until 2025;
other.pem, other.key: another name; client.pem: a client's certificate with its key; application.pem: the same, for RSA.
"""

import datetime
import pathlib
import sys

import trustme

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
ca = trustme.CA()
microsoft = "api.partnercenter.microsoft.com", "login.microsoftonline.com"
server = ca.issue_cert("localhost", "127.0.0.1", "crm.example", *microsoft)
ca.cert_pem.write_to_path(str(folder / "ca.pem"))
server.private_key_pem.write_to_path(str(folder / "server.key"))
for index, certificate in enumerate(server.cert_chain_pems):
    certificate.write_to_path(str(folder / "server.pem"), append=index > 0)
names = {"expired": ("localhost", datetime.datetime(2025, 1, 31)), "other": ("mail.example", None)}
for name, (host, not_after) in names.items():
    begin = datetime.datetime(2024, 1, 31) if not_after else None
    issued = ca.issue_cert(host, not_before=begin, not_after=not_after)
    issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
ca.issue_cert("vetwatch@contoso.example").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
application = ca.issue_cert("vetwatch@contoso.example", key_type=trustme.KeyType.RSA)
application.private_key_and_cert_chain_pem.write_to_path(str(folder / "application.pem"))
