"""Follows the commands of docs/install.md word for word in empty Debian roots, and says what came of each.

    install_page.py ROOT.tar PACKAGES PYTHON

PACKAGES is a folder with the packages, PYTHON one that has aiosmtpd. Beside the roots stand a simulated Partner Center
(the package's own `vetwatch sandbox`) and a mail server; the page's own configuration names Microsoft's.

Each command of the page has an entry in PLAN: one that has none is a failure, and so is an entry that the page has no
command for. What needs a running systemd or another distribution is not followed, and that is said.
"""

import email
import email.policy
import json
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

PAGE = pathlib.Path(__file__).parent.parent.parent / "docs" / "install.md"
SMTP_SERVER = pathlib.Path(__file__).with_name("smtp_server.py")
SECRET = "sandbox-secret"
CUSTOMER = "11111111-2222-4333-8444-555555555555"
PATIENCE = 60  # seconds for what takes moments on an idle machine


def commands():
    """(heading, command) for each line of the page that begins with a prompt."""
    heading, block = "", False
    for line in PAGE.read_text().splitlines():
        if line.startswith("#") and not block:
            heading = line.lstrip("# ")
        elif line.strip().startswith("```"):
            block = line.strip() == "```console" if not block else False
        elif block and line.strip()[:2] in ("# ", "$ "):
            yield heading, line.strip()[2:]


class Failed(Exception):
    pass


class Root:
    """A Debian root to type commands in."""

    def __init__(self, scratch, name, tarball, packages):
        self.path = scratch / name
        self.path.mkdir()
        subprocess.run(["tar", "-C", self.path, "-xf", tarball, "--exclude=./dev/*"], check=True)
        for device, number in (("null", 3), ("urandom", 9)):
            subprocess.run(["mknod", "-m", "666", self.path / "dev" / device, "c", "1", str(number)], check=True)
        self.home = self.path / "root"
        for package in packages.iterdir():
            shutil.copy(package, self.home)

    def command(self, line):
        return [
            *("env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb"),
            *("unshare", "--mount-proc", f"--root={self.path}", "--wd=/root"),
            *("/bin/bash", "-c", line),
        ]

    def type(self, line, typed="", expect=0):
        done = subprocess.run(self.command(line), input=typed, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for shown in done.stdout.splitlines():
            if shown.strip() and not shown.startswith(("Reading ", "Building ", "Get:", "(Reading", "WARNING: apt")):
                print(f"      {shown}")
        if done.returncode != expect:
            raise Failed(f"`{line}` ended with {done.returncode}")
        return done.stdout

    def file(self, path):
        return self.path / path.lstrip("/")


def started(command, first, **options):
    """Starts a program, and waits for its first line that fits. What it says later is read and dropped."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    lines = queue.Queue()

    def read():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    said = []
    try:
        while (line := lines.get(timeout=PATIENCE)) is not None:
            said.append(line)
            if found := re.search(first, line):
                return process, found
    except queue.Empty:
        process.kill()
    raise Failed(f"{command} said: {''.join(said)}")


def wait_for(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise Failed(f"waited for {what} in vain")


class Walk:
    """Somebody who has the packages and the page."""

    def __init__(self, scratch, tarball, packages, python):
        self.scratch, self.tarball, self.packages = scratch, tarball, packages
        self.root = self.new_root("deb")
        self.mails = scratch / "mails"
        self.mails.mkdir()
        arguments = [python, SMTP_SERVER, "--folder", self.mails]
        self.smtp, found = started(arguments, r"\{.*\}", stdin=subprocess.PIPE)
        self.smtp_port = json.loads(found.group())["port"]
        self.sandbox = self.daemon = self.url = None
        self.decided = False

    def new_root(self, name):
        return Root(self.scratch, name, self.tarball, self.packages)

    def close(self):
        for process in (self.daemon, self.sandbox, self.smtp):
            if process:
                process.terminate()
                process.wait()

    # --- What stands beside the machine ---

    def start_sandbox(self):
        line = "exec vetwatch sandbox --listen 127.0.0.1:0 --customers 4 --settled 1"
        self.sandbox, found = started(self.root.command(line), r"listening on (http://\S+)")
        self.url = found.group(1)
        self.control("customers", {"id": CUSTOMER, "name": "Contoso School", "domain": "contoso.example"})
        self.control(f"customers/{CUSTOMER}/submit")

    def control(self, path, body=None):
        data = json.dumps(body).encode() if body else b""
        urllib.request.urlopen(urllib.request.Request(f"{self.url}control/{path}", data=data)).read()

    # --- What the page has its reader do ---

    def install(self, line):
        said = self.root.type(line)
        if "vetwatch: not configured yet; run: vetwatch init" not in said:
            raise Failed("it does not say what to run")
        self.start_sandbox()

    def init(self, line):
        if subprocess.run(self.root.command("vetwatch init --help"), capture_output=True).returncode != 0:
            print("      NOT FOLLOWED: this binary has no `init`")
            return
        answers = {
            "--tenant": "5a4d0b1e-0c5c-4c8e-9f0e-2f6d3b1a7c11",
            "--client-id": "8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22",
            "--client-secret-file": "-",
            "--api-url": self.url,
            "--login-url": self.url,
            "--partner": "rehearsal",
            "--smtp-host": "127.0.0.1",
            "--smtp-port": self.smtp_port,
            "--smtp-tls": "none",
            "--from": "vetwatch@contoso.example",
            "--to": "sales@contoso.example",
            "--operators": "it@contoso.example",
        }
        print("      (its questions answered as options)")
        self.root.type(" ".join([line, *(f"{option} {answer}" for option, answer in answers.items())]), SECRET + "\n")
        print(f"      mail: {self.arrived('it@contoso.example', 'TEST')}")

    def copy_example(self, line):
        if self.daemon:
            print("      (the page's other way: the service, its configuration and its database are taken away first)")
            self.end_daemon()
            self.root.type("rm -rf /etc/vetwatch/vetwatch.toml /etc/vetwatch/credentials/* /var/lib/vetwatch/*")
        self.root.type(line)
        configuration = self.root.file("/etc/vetwatch/vetwatch.toml")
        if "[[partner]]" not in configuration.read_text():
            raise Failed("that is no example")
        print("      (edited: the simulated Partner Center, a mail server of this machine)")
        configuration.write_text(
            f"""
            [[partner]]
            name = "rehearsal"
            tenant = "5a4d0b1e-0c5c-4c8e-9f0e-2f6d3b1a7c11"
            client_id = "8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22"
            api_url = "{self.url}"
            login_url = "{self.url}"
            credential = {{ kind = "client-secret", client_secret_file = "client-secret" }}
            [schedule]
            in_review = "2s"
            settled = "5s"
            unqualified = "5s"
            [smtp.office]
            host = "127.0.0.1"
            port = {self.smtp_port}
            tls = "none"
            [[endpoint]]
            name = "sales-mail"
            kind = "email"
            smtp = "office"
            from = "vetwatch@contoso.example"
            to = ["sales@contoso.example"]
            [operators]
            endpoints = ["sales-mail"]
            """
        )

    def secret(self, line):
        self.root.type(line, SECRET + "\n")

    def check(self, line):
        self.root.type(line)

    def start(self, line):
        """Enables the service. No systemd runs here to start it, so the daemon is started as the unit would."""
        self.root.type(line, expect=1)
        if not self.root.file("/etc/systemd/system/multi-user.target.wants/vetwatch.service").is_symlink():
            raise Failed("the service is not enabled")
        if not self.root.file("/etc/vetwatch/vetwatch.toml").exists():
            print("      NOT FOLLOWED: nothing is configured yet")
            return
        print("      (no systemd runs here: the daemon is started as the unit would)")
        prepare = (
            "mkdir -p /run/credentials/vetwatch && cp /etc/vetwatch/credentials/* /run/credentials/vetwatch/"
            " && chown -R vetwatch /run/credentials/vetwatch"
        )
        run = "setpriv --reuid vetwatch --regid vetwatch --clear-groups env CREDENTIALS_DIRECTORY=/run/credentials/vetwatch vetwatch run"
        for mail in self.mails.iterdir():
            mail.unlink()
        self.daemon, _ = started(self.root.command(f"{prepare} && exec {run}"), "vetwatch")
        print(f"      mail: {self.arrived('@contoso.example', 'watched')}")
        if self.decided:
            self.control(f"customers/{CUSTOMER}/approve")
        else:
            self.control(f"customers/{CUSTOMER}/deny", {"reason": "Not an Academic Domain"})
        self.root.type("vetwatch poll")
        print(f"      mail: {self.arrived('sales@contoso.example', 'Approved: Contoso' if self.decided else 'Denied: Contoso')}")
        self.decided = True

    def end_daemon(self):
        self.daemon.terminate()
        self.daemon.wait()
        self.daemon = None

    def arrived(self, recipient, about=""):
        def look():
            for mail in sorted(self.mails.glob("*.json")):
                message = email.message_from_bytes(mail.with_suffix(".eml").read_bytes(), policy=email.policy.default)
                if recipient in mail.read_text() and about in message["subject"]:
                    return message["subject"]
            return None

        return wait_for(f"a mail to {recipient} about {about or 'anything'}", look)

    def upgrade(self, line):
        configuration = self.root.file("/etc/vetwatch/vetwatch.toml")
        before = configuration.read_bytes()
        self.root.type(line)
        if configuration.read_bytes() != before:
            raise Failed("the configuration changed")

    def remove(self, line):
        self.end_daemon()
        self.sandbox.terminate()
        self.sandbox.wait()
        self.sandbox = None
        self.root.type(line, "y\n")
        if self.root.file("/usr/bin/vetwatch").exists() or not self.root.file("/etc/vetwatch/vetwatch.toml").exists():
            raise Failed("the program should be gone, and the configuration not")

    def purge(self, line):
        said = self.root.type(line, "y\n")
        if "vetwatch: kept /var/lib/vetwatch" not in said or self.root.file("/etc/vetwatch").exists():
            raise Failed("the configuration should be gone, and what is kept be said")

    def delete(self, line):
        self.root.type(line)

    def unpack(self, line):
        self.root = self.new_root("tarball")
        self.root.type(line)

    def prepare(self, line):
        self.root.type(line)

    def prepared(self, line):
        self.root.type(line)
        self.root.type("id vetwatch && stat -c '%a %U %n' /etc/vetwatch/credentials /var/lib/vetwatch && vetwatch --version")
        self.root.type("systemctl cat vetwatch | head -n 3; systemctl enable vetwatch")

    def not_here(self, line):
        print("      NOT FOLLOWED: no rpm distribution is here")

    def elsewhere(self, line):
        print("      NOT FOLLOWED here: it is how the packages of this run were made, in the folder of the sources")


# In the page's order: the heading, a part of the command, what is done.
PLAN = [
    ("Install", "apt install ", Walk.install),
    ("Install", "vetwatch init", Walk.init),
    ("Install", "systemctl enable --now", Walk.start),
    ("Without `init`", "cp /usr/share/vetwatch/vetwatch.toml", Walk.copy_example),
    ("Without `init`", "cat > /etc/vetwatch/credentials/client-secret", Walk.secret),
    ("Without `init`", "vetwatch check --live", Walk.check),
    ("Without `init`", "systemctl enable --now", Walk.start),
    ("RHEL, Fedora, SUSE", "dnf install", Walk.not_here),
    ("From source", "cargo build", Walk.elsewhere),
    ("From source", "deploy/packages/build", Walk.elsewhere),
    ("Upgrade", "apt install", Walk.upgrade),
    ("Uninstall", "apt remove", Walk.remove),
    ("Uninstall", "apt purge", Walk.purge),
    ("Uninstall", "rm -r /var/lib/vetwatch", Walk.delete),
    ("Uninstall", "userdel", Walk.delete),
    # In a root of its own, and so last.
    ("Other systems", "tar -xzf", Walk.unpack),
    ("Other systems", "systemd-sysusers", Walk.prepare),
    ("Other systems", "systemd-tmpfiles", Walk.prepared),
]


def main():
    tarball, packages, python = (pathlib.Path(argument).absolute() for argument in sys.argv[1:])
    waiting = list(commands())
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        walk = Walk(pathlib.Path(scratch), tarball, packages, python)
        try:
            for heading, part, step in PLAN:
                found = next((entry for entry in waiting if entry[0] == heading and part in entry[1]), None)
                if not found:
                    raise Failed(f"the page has no command with `{part}` below {heading}")
                waiting.remove(found)
                print(f"{heading}: {found[1]}")
                step(walk, found[1])
        except Failed as error:
            print(f"FAILED: {error}")
            failed += 1
        finally:
            walk.close()
    for heading, command in waiting if not failed else []:
        print(f"FAILED: {heading}: {command}: not in the plan")
        failed += 1
    if failed:
        sys.exit(f"{failed} failed")
    print("the page was followed; what a running systemd does is left to tests/campaign install")


main()
