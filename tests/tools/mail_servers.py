"""Sends mails of the real program through Postfix and Exim, with strict settings, and reads the mailboxes.

Run by `tests/campaign mail-servers`, as root in a mount namespace of its own. Prints a line for each case; ends with 1 if
one fails. Nothing is installed: the packages are unpacked into a folder, and the servers run from there, on free ports
of 127.0.0.1. Their users stand in a copy of /etc/passwd that only this namespace sees.
"""

import argparse
import contextlib
import email
import email.policy
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid

PACKAGES = """postfix exim4-base exim4-daemon-light dovecot-core libidn12 libgnutls-dane0 libnsl2 libunwind8 liblua5.4-0
    libexttextcat-2.0-0 libstemmer0d libwrap0 libtirpc3 libunbound8 libevent-2.1-7 libsodium23 libdb5.3 libpcre2-8-0
    libapparmor1 libsasl2-2""".split()
USERS = {"postfix": 52001, "postdrop": 52002, "Debian-exim": 52003, "dovecot": 52004, "dovenull": 52005, "mailbox": 52006}
PASSWORD = "pass word-Ü"
TENANT = "5a4d0b1e-0c5c-4c8e-9f0e-2f6d3b1a7c11"
CLIENT = "8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22"
IDN = "xn--schule-kln-lcb.example"
PATIENCE = 30


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [it.getsockname()[1] for it in sockets]


def wait_for(what, condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE} s for {what}")
        time.sleep(0.05)
    return found


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def unpack(folder):
    """The packages, and what they need beyond a small Debian, unpacked into `folder`."""
    if (folder / "complete").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as downloads:
        os.chmod(downloads, 0o777)
        subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=downloads, check=True, stdout=subprocess.DEVNULL)
        for package in pathlib.Path(downloads).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    (folder / "complete").touch()


def add_users(work):
    """The servers look their users up by name."""
    for file, line in [("passwd", "{0}:x:{1}:{1}::/nonexistent:/usr/sbin/nologin\n"), ("group", "{0}:x:{1}:\n")]:
        present = pathlib.Path("/etc", file).read_text()
        more = "".join(line.format(*user) for user in USERS.items() if not re.search(f"^{user[0]}:", present, re.M))
        copy = work / file
        copy.write_text(present.rstrip("\n") + "\n" + more)
        copy.chmod(0o644)
        subprocess.run(["mount", "--bind", copy, f"/etc/{file}"], check=True)


def add_libraries(work, root):
    """Exim is set-uid, and then looks for libraries only where the linker's cache says."""
    configuration, cache = work / "ld.so.conf", work / "ld.so.cache"
    libraries = "".join(f"{path}\n" for path in (*root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*")))
    configuration.write_text("include /etc/ld.so.conf\n" + libraries)
    subprocess.run(["/sbin/ldconfig", "-X", "-f", configuration, "-C", cache], check=True)
    subprocess.run(["mount", "--bind", cache, "/etc/ld.so.cache"], check=True)


class Server:
    """A mail server with a mailbox for each of `self.known`, in Maildir format."""

    def __init__(self, root, work, certificates):
        self.root, self.work, self.certificates = root, work, certificates
        work.mkdir()
        work.chmod(0o755)
        self.mail = work / "mail"
        self.mail.mkdir()
        shutil.chown(self.mail, "mailbox", "mailbox")
        libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/postfix", "usr/lib/dovecot", "usr/lib/dovecot/modules/old-stats"]
        libraries = [str(path) for path in root.glob("usr/lib/*-linux-gnu*")] + [str(root / path) for path in libraries]
        self.libraries = ":".join(libraries)
        self.environment = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": self.libraries}
        self.starttls, self.implicit, self.small, self.few = free_ports(4)
        self.known = [f"r{n}@contoso.example" for n in range(250)]
        self.known += ["ops@contoso.example", "grey@contoso.example", f"poststelle@{IDN}"]
        self.processes = []

    def start(self, *command):
        log = open(self.work / f"{pathlib.Path(command[0]).name}.out", "ab")
        self.processes.append(subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(10)

    def mailbox(self, address):
        """The mails of a mailbox, oldest first, each as bytes and as Python's own parser reads it."""
        local, domain = address.split("@")
        files = [file for part in ("new", "cur") for file in (self.mail / domain / local).glob(f"{part}/*")]
        mails = [file.read_bytes() for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]
        return [(mail, email.message_from_bytes(mail, policy=email.policy.default)) for mail in mails]

    def clear(self):
        for domain in self.mail.iterdir():
            shutil.rmtree(domain)


class Policy(socketserver.StreamRequestHandler):
    """Greylisting, as a policy service of Postfix: the first attempt at grey@ is deferred."""

    seen = False

    def handle(self):
        request = {}
        for line in self.rfile:
            if line := line.decode().strip():
                key, _, value = line.partition("=")
                request[key] = value
                continue
            action = "dunno"
            if request.get("recipient", "").startswith("grey@") and not Policy.seen:
                Policy.seen = True
                action = "450 4.2.0 Recipient address rejected: Greylisted, see postgrey"
            self.wfile.write(f"action={action}\n\n".encode())
            request = {}


class Postfix(Server):
    name = "Postfix"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        policy = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Policy)
        policy.daemon_threads = True
        threading.Thread(target=policy.serve_forever, daemon=True).start()
        work, root = self.work, self.root
        queue, config, sbin = work / "queue", work / "etc", root / "usr/lib/postfix/sbin"
        for folder in "active bounce corrupt defer deferred flush hold incoming private public saved trace maildrop pid".split():
            (queue / folder).mkdir(parents=True)
            shutil.chown(queue / folder, "postfix" if folder != "pid" else "root", "postdrop" if folder in ("public", "maildrop") else None)
        (work / "data").mkdir()
        shutil.chown(work / "data", "postfix")
        config.mkdir()
        (config / "mailboxes").write_text("".join(f"{it} {it.split('@')[1]}/{it.split('@')[0]}/\n" for it in self.known))
        (config / "long").write_text("/^.{999,}/ REJECT a line of more than 998 octets\n")
        (config / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {work}/data
command_directory = {root}/usr/sbin
daemon_directory = {sbin}
mail_owner = postfix
setgid_group = postdrop
import_environment = LD_LIBRARY_PATH={self.libraries} MAIL_CONFIG={config} TZ=UTC
export_environment = LD_LIBRARY_PATH={self.libraries} MAIL_CONFIG={config} TZ=UTC
maillog_file = {work}/log
maillog_file_prefixes = {work}
myhostname = mail.contoso.example
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
default_transport = error:nothing leaves this machine
virtual_mailbox_domains = contoso.example, {IDN}
virtual_mailbox_maps = texthash:{config}/mailboxes
virtual_mailbox_base = {self.mail}
virtual_minimum_uid = 100
virtual_uid_maps = static:{USERS["mailbox"]}
virtual_gid_maps = static:{USERS["mailbox"]}
smtpd_tls_cert_file = {self.certificates}/server.pem
smtpd_tls_key_file = {self.certificates}/server.key
smtpd_tls_security_level = encrypt
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_tls_auth_only = yes
smtpd_delay_reject = no
smtpd_helo_required = yes
smtpd_helo_restrictions = reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname
smtpd_sender_restrictions = reject_non_fqdn_sender
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = reject_non_fqdn_recipient, reject_unlisted_recipient, check_policy_service inet:127.0.0.1:{policy.server_address[1]}, permit_sasl_authenticated, reject
strict_rfc821_envelopes = yes
smtputf8_enable = no
strict_8bitmime = yes
disable_vrfy_command = yes
mime_header_checks = regexp:{config}/long
body_checks = regexp:{config}/long
""")
        plain = "- n - - smtpd"
        (config / "master.cf").write_text(f"""
127.0.0.1:{self.starttls} inet n {plain}
127.0.0.1:{self.implicit} inet n {plain}
  -o smtpd_tls_wrappermode=yes
127.0.0.1:{self.small} inet n {plain}
  -o message_size_limit=3000
127.0.0.1:{self.few} inet n {plain}
  -o smtpd_recipient_limit=50
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
""")
        self.start_dovecot(queue / "private/auth")
        self.start(sbin / "master", "-c", config, "-d")

    def start_dovecot(self, at):
        """Postfix has no passwords of its own."""
        work, root = self.work / "dovecot", self.root
        work.mkdir()
        work.chmod(0o755)
        (work / "users").write_text(f"watch:{{PLAIN}}{PASSWORD}\n")
        (work / "dovecot.conf").write_text(f"""
protocols =
base_dir = {work}/run
state_dir = {work}/state
libexec_dir = {root}/usr/lib/dovecot
import_environment = LD_LIBRARY_PATH={self.libraries}
log_path = {work}/log
default_internal_user = dovecot
default_login_user = dovenull
auth_mechanisms = plain login
ssl = no
passdb {{
  driver = passwd-file
  args = {work}/users
}}
service stats {{
  chroot =
}}
service anvil {{
  chroot =
}}
service auth {{
  unix_listener {at} {{
    mode = 0666
  }}
}}
""")
        # Alone it looks for doveconf at its usual place.
        self.start(root / "usr/bin/doveconf", "-f", "service=master", "-c", work / "dovecot.conf", "-e", root / "usr/sbin/dovecot", "-F", "-c", work / "dovecot.conf")
        wait_for("dovecot", at.exists)


class Exim(Server):
    name = "Exim"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        work = self.work
        (work / "spool").mkdir()
        shutil.chown(work / "spool", "Debian-exim", "Debian-exim")
        (work / "log").mkdir()
        shutil.chown(work / "log", "Debian-exim", "Debian-exim")
        # With another configuration than its own it gives up root's rights.
        shutil.chown(self.mail, "Debian-exim", "Debian-exim")
        (work / "mailboxes").write_text("".join(f"{it}: {it.split('@')[1]}/{it.split('@')[0]}\n" for it in self.known))
        (work / "exim.conf").write_text(f"""
primary_hostname = mail.contoso.example
exim_path = {self.root}/usr/sbin/exim4
spool_directory = {work}/spool
log_file_path = {work}/log/%s
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.starttls} : {self.implicit} : {self.small} : {self.few}
tls_on_connect_ports = {self.implicit}
tls_advertise_hosts = *
tls_certificate = {self.certificates}/server.pem
tls_privatekey = {self.certificates}/server.key
auth_advertise_hosts = ${{if def:tls_in_cipher {{*}}}}
smtputf8_advertise_hosts =
allow_utf8_domains = false
strip_trailing_dot = false
helo_allow_chars =
message_size_limit = ${{if eq {{$received_port}}{{{self.small}}}{{3000}}{{50M}}}}
recipients_max = 120
recipients_max_reject = false
acl_smtp_helo = helo
acl_smtp_mail = mail
acl_smtp_rcpt = rcpt
acl_smtp_data = data
deliver_drop_privilege = true
never_users = root
keep_environment = LD_LIBRARY_PATH
domainlist local = contoso.example : {IDN}

begin acl
helo:
  deny message = 550 Helo command rejected: need fully-qualified hostname
       !condition = ${{if match {{$sender_helo_name}}{{\\N^(\\[.*\\]|[a-zA-Z0-9-]+(\\.[a-zA-Z0-9-]+)+)$\\N}}}}
  accept
mail:
  deny message = no TLS
       !encrypted = *
  deny message = authentication required
       !authenticated = *
  accept
rcpt:
  deny message = restricted characters
       local_parts = \\N[^\\x21-\\x7e]|[@%!/|]\\N
  deny message = relay not permitted
       !domains = +local
  defer message = Greylisted, try again later
       local_parts = grey
       !condition = ${{if exists {{{work}/spool/grey}}}}
       condition = ${{run {{/usr/bin/touch {work}/spool/grey}} {{true}}{{true}}}}
  require message = no such mailbox
       verify = recipient
  deny message = too many recipients
       condition = ${{if and {{ {{eq {{$received_port}}{{{self.few}}}}} {{>= {{$recipients_count}}{{50}}}} }} }}
  accept
data:
  deny message = a line of more than 998 octets
       condition = ${{if > {{$max_received_linelength}}{{998}}}}
  deny message = syntax of a header
       !verify = header_syntax
  accept

begin routers
boxes:
  driver = accept
  domains = +local
  condition = ${{lookup {{$local_part@$domain}} lsearch {{{work}/mailboxes}} {{yes}}{{no}}}}
  transport = box

begin transports
box:
  driver = appendfile
  maildir_format
  directory = {self.mail}/${{lookup {{$local_part@$domain}} lsearch {{{work}/mailboxes}}}}
  create_directory

begin retry
* * F,1h,1m

begin rewrite

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and {{ {{eq {{$auth2}}{{watch}}}} {{eq {{$auth3}}{{{PASSWORD}}}}} }} }}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and {{ {{eq {{$auth1}}{{watch}}}} {{eq {{$auth2}}{{{PASSWORD}}}}} }} }}
  server_set_id = $auth1
""")
        (work / "exim.conf").chmod(0o644)
        self.start(self.root / "usr/sbin/exim4", "-C", work / "exim.conf", "-bdf", "-q1m")


class Watch:
    """vetwatch with a database of its own, on a simulated Partner Center."""

    def __init__(self, binary, api, work, server, *, to, port=None, tls="starttls", password=PASSWORD, more="", sender="vetwatch@contoso.example", ops="ops@contoso.example"):
        self.binary, self.api, self.folder, self.server = binary, api, work / f"case-{secrets.token_hex(4)}", server
        self.folder.mkdir()
        (self.folder / "client-secret").write_text("sandbox-secret")
        (self.folder / "smtp-password").write_text(password)
        port = port or {"starttls": server.starttls, "implicit": server.implicit}[tls]
        self.config = self.folder / "vetwatch.toml"
        self.config.write_text(f"""
[database]
path = "{self.folder}/vetwatch.db"
[[partner]]
name = "emea"
tenant = "{TENANT}"
client_id = "{CLIENT}"
api_url = "{api}"
login_url = "{api}"
customers = "manual"
requests_per_minute = 60000
[partner.credential]
kind = "client-secret"
client_secret_file = "client-secret"
[schedule]
in_review = "500ms"
settled = "500ms"
[retry]
schedule = ["1s", "1s"]
[smtp.office]
host = "localhost"
port = {port}
tls = "{tls}"
username = "watch"
password_file = "smtp-password"
ca_file = "{server.certificates}/ca.pem"
{more}
[[endpoint]]
name = "sales-mail"
kind = "email"
smtp = "office"
from = "{sender}"
to = {json.dumps(to, ensure_ascii=False)}
[[endpoint]]
name = "ops-mail"
kind = "email"
smtp = "office"
from = "{sender}"
to = ["{ops}"]
[[route]]
events = ["vetting.approved", "vetting.denied"]
endpoints = ["sales-mail"]
group_wait = "GROUP"
[operators]
endpoints = ["ops-mail"]
""".replace("GROUP", "0s"))
        self.daemon = None

    def __enter__(self):
        self.server.clear()
        return self

    def __exit__(self, *_):
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait(30)

    def run(self, *arguments, check=True):
        environment = {"CREDENTIALS_DIRECTORY": str(self.folder), "PATH": os.environ["PATH"]}
        done = subprocess.run([self.binary, "--config", self.config, *arguments], env=environment, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(f"vetwatch {' '.join(arguments)}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def ask(self, path, body=None):
        data = json.dumps(body).encode() if body is not None else b""
        request = urllib.request.Request(f"{self.api}control/customers{path}", data=data, method="POST")
        with urllib.request.urlopen(request) as response:
            return response.read()

    def customers(self, names):
        """Each is in review, and known to be."""
        ids = [str(uuid.uuid4()) for _ in names]
        table = "".join(f'{one},"{name.replace(chr(34), chr(34) * 2)}"\n' for one, name in zip(ids, names))
        (self.folder / "customers.csv").write_text("id,name\n" + table)
        for one, name in zip(ids, names):
            self.ask("", {"id": one, "name": name, "domain": f"{one[:8]}.example"})
            self.ask(f"/{one}/submit")
        self.run("customers", "import", str(self.folder / "customers.csv"))
        self.run("poll")
        return ids

    def deny(self, ids):
        for one in ids:
            self.ask(f"/{one}/deny", {"reason": "Not an Academic Domain"})

    def start(self):
        log = open(self.folder / "log", "ab")
        environment = {"CREDENTIALS_DIRECTORY": str(self.folder), "PATH": os.environ["PATH"]}
        self.daemon = subprocess.Popen([self.binary, "--config", self.config, "run"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def deliveries(self):
        return [row for row in json.loads(self.run("deliveries", "list", "--json").stdout) if row["endpoint"] == "sales-mail"]

    def delivered(self, count=1):
        """All verdicts are sent."""
        def are_all():
            rows = self.deliveries()
            return len(rows) >= count and all(row["state"] == "delivered" for row in rows) and rows
        return wait_for("the deliveries", are_all)


def check(mail, name=None):
    """What every mail must be, whoever reads it."""
    raw, parsed = mail
    assert raw.isascii(), "not ASCII"
    longest = max(len(line) for line in raw.splitlines())
    assert longest <= 998, f"a line of {longest} octets"
    own = raw[raw.index(b"\nFrom: ") + 1 :]
    folded = [line for line in own.split(b"\n\n")[0].replace(b"\r", b"").split(b"\n") if len(line) > 78]
    assert all(line.count(b" ") <= 1 for line in folded), f"not folded: {folded}"
    assert len(raw) <= 102_000, f"{len(raw)} octets"
    defects = [defect for part in parsed.walk() for defect in part.defects] + [d for v in parsed.values() for d in getattr(v, "defects", ())]
    assert not defects, defects
    if name:
        assert name in parsed["Subject"], parsed["Subject"]
        assert name in parsed.get_body(("plain",)).get_content()


def one_mail(server, address, name=None):
    mails = wait_for(f"a mail in {address}", lambda: server.mailbox(address))
    assert len(mails) == 1, f"{len(mails)} mails in {address}"
    check(mails[0], name)
    return mails[0]


def cases(server, make):
    def send(names=("Contoso School",), **settings):
        watch = make(server, **settings)
        ids = watch.customers(names)
        watch.deny(ids)
        return watch

    def probe(tls):
        with send(to=["r0@contoso.example"], tls=tls) as watch:
            said = watch.run("check", "--live").stdout
            assert "logged in as watch" in said, said
            watch.start()
            watch.delivered()
            raw, _ = one_mail(server, "r0@contoso.example", "Contoso School")
            hello = re.search(rb"^Received: from (\S+)", raw, re.M)[1].decode()
            return f"AUTH, delivered; EHLO {hello}"

    def starttls():
        return probe("starttls")

    def implicit():
        return probe("implicit")

    def hello():
        with send(to=["r0@contoso.example"], more='hello = "vetwatch.contoso.example"') as watch:
            watch.start()
            watch.delivered()
            raw, _ = one_mail(server, "r0@contoso.example")
            assert b"vetwatch.contoso.example" in raw[: raw.index(b"\nFrom: ")], raw
            return "EHLO vetwatch.contoso.example, as configured"

    def bare_name():
        with socket.create_connection(("127.0.0.1", server.starttls), timeout=PATIENCE) as connection:
            stream = connection.makefile("rwb")
            stream.readline()
            stream.write(b"EHLO vetwatch\r\n")
            stream.flush()
            reply = stream.readline().decode().strip()
            assert reply.startswith("5"), f"the server is not strict: {reply}"
            return f"refused by the server ({reply})"

    def recipients(count, port=None):
        to = [f"r{n}@contoso.example" for n in range(count)]
        with send(to=to, port=port) as watch:
            watch.start()
            row, = watch.delivered()
            ids = set()
            for address in to:
                _, parsed = one_mail(server, address, "Contoso School")
                ids.add(parsed["Message-ID"])
                assert [it.addr_spec for it in parsed["To"].addresses] == to
            assert len(ids) == 1, ids
            assert row["attempts"] == 1, row
            return f"{count} mailboxes, a mail each, one Message-ID, one attempt"

    def thirty():
        return recipients(30)

    def many():
        return recipients(250)

    def few_at_once():
        return recipients(120, server.few) + ", though the server takes 50 a transaction"

    def idn():
        with send(to=["Büro <poststelle@schule-köln.example>"], sender="Prüfung <vetting@büro.example>") as watch:
            watch.start()
            watch.delivered()
            raw, parsed = one_mail(server, f"poststelle@{IDN}", "Contoso School")
            assert parsed["From"].addresses[0].addr_spec == "vetting@xn--bro-hoa.example", parsed["From"]
            assert parsed["To"].addresses[0].addr_spec == f"poststelle@{IDN}", parsed["To"]
            assert parsed["To"].addresses[0].display_name == "Büro"
            assert parsed["Message-ID"].endswith("@xn--bro-hoa.example>"), parsed["Message-ID"]
            return f"{parsed['From']} → {parsed['To']}, without SMTPUTF8"

    def unknown():
        to = [f"r{n}@contoso.example" for n in range(20)]
        with send(to=to[:10] + ["gone@contoso.example"] + to[10:]) as watch:
            watch.start()
            watch.delivered()
            for address in to:
                one_mail(server, address, "Contoso School")
            said = watch.run("status", check=False)
            assert said.returncode == 3 and "gone@contoso.example" in said.stdout, said
            return "20 delivered; status names gone@contoso.example"

    def greylisted():
        to = ["r0@contoso.example", "grey@contoso.example"]
        with send(to=to) as watch:
            watch.start()
            row, = watch.delivered()
            assert row["attempts"] >= 2, row
            for address in to:
                one_mail(server, address, "Contoso School")
            return f"deferred, then delivered at attempt {row['attempts']}; nobody got it twice"

    def wrong_password():
        with send(to=["r0@contoso.example"], password="wrong") as watch:
            live = watch.run("check", "--live", check=False)
            assert live.returncode and "535" in live.stdout + live.stderr, live
            watch.start()
            wait_for("an attempt", lambda: [row for row in watch.deliveries() if row["last_error"]])
            row, = watch.deliveries()
            assert row["state"] == "pending" and "535" in row["last_error"], row
            assert PASSWORD not in row["last_error"]
            return f"the message waits ({row['last_error']})"

    def size():
        with send(to=["r0@contoso.example"], port=server.small) as watch:
            watch.start()
            wait_for("the end", lambda: [row for row in watch.deliveries() if row["state"] == "dead"])
            row, = watch.deliveries()
            assert not server.mailbox("r0@contoso.example")
            return f"dead at once ({row['last_error']})"

    def names():
        names = ["=?utf-8?b?4oCuQXBwcm92ZWQ=?=", "学校" * 30, "École «Élémentaire» de Zürich", 'Smith, "Jo" <jo@evil.example>', "x" * 400]
        with send(names=names, to=["r0@contoso.example"]) as watch:
            watch.start()
            watch.delivered(len(names))
            mails = server.mailbox("r0@contoso.example")
            subjects = [mail[1]["Subject"] for mail in mails]
            for mail in mails:
                check(mail)
            for name in names[:1] + names[2:4]:
                assert any(f"Denied: {name} –" in subject for subject in subjects), (name, subjects)
            return f"{len(names)} subjects read as meant, an encoded word among them"

    def digest():
        watch = make(server, to=["r0@contoso.example"])
        watch.config.write_text(watch.config.read_text().replace('group_wait = "0s"', 'group_wait = "5s"'))
        ids = watch.customers([f"Школа № {n}" for n in range(500)])
        watch.deny(ids)
        with watch:
            watch.run("poll")
            watch.start()
            watch.delivered()
            mails = server.mailbox("r0@contoso.example")
            listed = ""
            for mail in mails:
                check(mail)
                listed += "".join(part.get_content() for part in mail[1].iter_attachments())
                listed += mail[1].get_body(("plain",)).get_content()
            missing = [one for one in ids if one not in listed]
            assert not missing, f"{len(missing)} of 500 customers are in no mail"
            sizes = [len(mail[0]) for mail in mails]
            return f"500 verdicts in {len(mails)} mails of at most {max(sizes)} octets; each is listed"

    return [bare_name, starttls, implicit, hello, thirty, many, few_at_once, idn, unknown, greylisted, wrong_password, size, names, digest]


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("packages", type=pathlib.Path, help="where the packages are unpacked")
    parser.add_argument("--only", help="cases whose names contain this")
    parser.add_argument("--server", default="", help="Postfix or Exim alone")
    parser.add_argument("--keep", action="store_true", help="keep the folder with configurations and logs")
    arguments = parser.parse_args()
    arguments.packages = arguments.packages.resolve()
    arguments.binary = arguments.binary.resolve()
    unpack(arguments.packages)
    work = pathlib.Path(tempfile.mkdtemp(prefix="vetwatch-mail-"))
    work.chmod(0o755)
    add_users(work)
    add_libraries(work, arguments.packages)
    certificates = work / "certificates"
    subprocess.run([sys.executable, pathlib.Path(__file__).with_name("make_certs.py"), certificates], check=True)
    certificates.chmod(0o755)
    for file in certificates.iterdir():
        file.chmod(0o644)
    (work / "sandbox-secret").write_text("sandbox-secret")
    (port,) = free_ports(1)
    sandbox = subprocess.Popen([arguments.binary, "sandbox", "--listen", f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    api = f"http://127.0.0.1:{port}/"
    wait_for("the sandbox", lambda: accepts(port))
    failed = passed = 0
    try:
        for kind in (Postfix, Exim):
            if arguments.server not in kind.name:
                continue
            server = None
            try:
                server = kind(arguments.packages, work / kind.name.lower(), certificates)
                wait_for(server.name, lambda: accepts(server.starttls) and accepts(server.implicit))
                for case in cases(server, lambda at, **settings: Watch(arguments.binary, api, work, at, **settings)):
                    if arguments.only and arguments.only not in case.__name__:
                        continue
                    label = f"{server.name}: {case.__name__.replace('_', ' ')}"
                    try:
                        print(f"ok      {label}: {case()}", flush=True)
                        passed += 1
                    except Exception as error:
                        print(f"FAILED  {label}: {type(error).__name__}: {str(error)[-900:]}", flush=True)
                        failed += 1
            finally:
                if server:
                    server.stop()
    finally:
        sandbox.terminate()
        sandbox.wait(10)
        for file in ("passwd", "group", "ld.so.cache"):
            subprocess.run(["umount", f"/etc/{file}"], check=True)
        if arguments.keep:
            print(f"kept: {work}")
        else:
            shutil.rmtree(work)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
