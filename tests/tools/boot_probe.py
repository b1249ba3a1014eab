"""Runs as root in the system that boot_install.py boots, and does the steps of STEPS, at the end of this file.

For each step it prints a heading, and for each thing that it checks `ok:` or `FAILED:` with what was seen. A step that
fails does not end the others. A step may reboot the system: STATE says where to go on.
"""

import email
import email.policy
import functools
import json
import mailbox
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import traceback
import urllib.request

STATE = pathlib.Path("/var/lib/boot-probe.json")
CONFIGURATION = pathlib.Path("/etc/vetwatch/vetwatch.toml")
CREDENTIALS = pathlib.Path("/etc/vetwatch/credentials")
DATA = pathlib.Path("/var/lib/vetwatch")
MAILBOXES = pathlib.Path("/home")
SANDBOX = "http://127.0.0.1:8765/"
TENANT = "5a4d0b1e-0c5c-4c8e-9f0e-2f6d3b1a7c11"
CLIENT = "8c2f4a76-3b0d-4d4f-8d53-7e1b6c9a0f22"
SECRET = "kept~Out.Of.Every_Log-4711"
PATIENCE = 180  # for what should happen soon; emulation is slow
SHOWN = 12  # lines of what was seen and is right
APT = "apt-get -q -y -o Dpkg::Use-Pty=0"

BY_HAND = f"""
[[partner]]
name = "rehearsal"
tenant = "{TENANT}"
client_id = "{CLIENT}"
api_url = "{SANDBOX}"
login_url = "{SANDBOX}"
[partner.credential]
kind = "client-secret"
client_secret_file = "client-secret"

[smtp.office]
host = "127.0.0.1"
port = 25
tls = "none"

[[endpoint]]
name = "sales-mail"
kind = "email"
smtp = "office"
from = "vetwatch@contoso.example"
to = ["sales@contoso.example"]

[[endpoint]]
name = "ops-mail"
kind = "email"
smtp = "office"
from = "vetwatch@contoso.example"
to = ["ops@contoso.example"]

[[route]]
events = ["vetting.approved", "vetting.denied", "vetting.revoked", "vetting.vanished", "vetting.overdue"]
endpoints = ["sales-mail"]

[operators]
endpoints = ["ops-mail", "sales-mail"]

[schedule]
in_review = "2s"
settled = "5s"
unqualified = "5s"
"""
RETRY = """
[retry]
schedule = ["2s", "5s"]
"""
STANDBY = f"""
[standby]
host = "vetwatch-1"
etcd_urls = ["http://127.0.0.1:2379"]
replica_url = "file://{DATA}/replica"
"""


# --- What the steps are made of ---


class Done:
    """A command that has ended: its exit code, and its output and errors together."""

    def __init__(self, command):
        self.command = command
        it = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.code, self.text = it.returncode, it.stdout.decode(errors="replace").strip()

    def __str__(self):
        return f"$ {self.command}\n{self.text}\nexit code {self.code}"


def say(line):
    print(line, flush=True)


def see(what, good, seen=""):
    say(f"  {'ok' if good else 'FAILED'}: {what}")
    lines = [line for line in str(seen).splitlines() if line.strip() and "(Reading database" not in line]
    if good and len(lines) > SHOWN:
        lines = [*lines[: SHOWN // 2], "…", *lines[-SHOWN // 2 :]]
    for line in lines:
        say(f"        | {line}")


def runs(what, command, code=0, says=(), never=()):
    """Runs a command, and looks at its exit code and for patterns in its output."""
    done = Done(command)
    is_right = all(re.search(it, done.text) for it in says) and not any(re.search(it, done.text) for it in never)
    see(what, done.code == code and is_right, done)
    return done


def until(what, condition, patience=PATIENCE):
    end = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience} s for {what}")
        time.sleep(0.5)
    return found


def unit(*names):
    lines = Done(f"systemctl show vetwatch {' '.join(f'-p {name}' for name in names)}").text.splitlines()
    found = dict(line.split("=", 1) for line in lines)
    return found[names[0]] if len(names) == 1 else found


def journal(since, only=""):
    return Done(f"journalctl -u vetwatch -o cat --since=@{since:.3f} {only}").text


def control(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{SANDBOX}control/{path}", data)) as answer:
        return json.load(answer)


def deny(reason):
    """Partner Center decides about the next customer in review."""
    customers = control("customers?limit=100")["customers"]
    it = next(it for it in customers if any(entry["vettingStatus"] == "InReview" for entry in it["entries"]))
    control(f"customers/{it['id']}/deny", {"reason": reason})
    say(f"     Partner Center denies {it['name']}: {reason}")
    return it | {"reason": reason}


def mails(user, *words):
    """The mails of a mailbox that have all of `words`, as (Message-ID, subject)."""
    folder = MAILBOXES / user / "Maildir"
    if not folder.exists():
        return []
    parsed = functools.partial(email.message_from_binary_file, policy=email.policy.default)
    texts = [(mail, mail.get_body(("plain",)).get_content()) for mail in mailbox.Maildir(folder, factory=parsed)]
    return [(mail["Message-ID"], mail["Subject"]) for mail, text in texts if all(word in text for word in words)]


def verdicts(customer):
    return mails("sales", customer["id"], customer["reason"])


def arrives(customer, what="the verdict arrives, with its reason"):
    """Waits for the mail, and returns its Message-ID."""
    found = until(f"the mail about {customer['name']}", lambda: verdicts(customer))
    see(what, len(found) == 1, "\n".join(map(" ".join, found)))
    return found[0][0]


def pending():
    done = Done("vetwatch deliveries list --state pending --json")
    return json.loads(done.text) if done.code == 0 else []


def start_sandbox():
    secret = pathlib.Path("/root/sandbox-secret")
    secret.write_text(SECRET)
    secret.chmod(0o600)
    options = f"--listen 127.0.0.1:8765 --customers 16 --in-review 12 --settled 2 --client-secret-file {secret}"
    # At a reboot vetwatch stops first: Partner Center does not end with this machine.
    done = Done(f"systemd-run --quiet --unit=sandbox --property=Before=vetwatch.service /probe/sandbox sandbox {options}")

    def answers():
        try:
            return control("customers?limit=1")["total"]
        except OSError:
            return False

    total = until("the simulated Partner Center", answers)
    see(f"a simulated Partner Center with {total} customers, 12 of them in review", done.code == 0)


def write_secret(name, value):
    file = CREDENTIALS / name
    file.touch(mode=0o600)
    file.write_text(value)


def is_well(what="`vetwatch status` of root"):
    until("a status that says all is well", lambda: Done("vetwatch status").code == 0)
    runs(what, "vetwatch status", says=["^all is well"])


def began():
    """Waits for the first round to be over: the operators are told."""
    until("the mail about the first round", lambda: [it for it in mails("ops") if "watched" in it[1]])


# --- The steps ---


def unconfigured():
    """Installed and not configured: says in one line what to run, and does not run"""
    done = runs("apt installs the package", f"{APT} install /probe/new.deb", says=["vetwatch init"])
    lines = [line for line in done.text.splitlines() if line.startswith("vetwatch:")]
    see("it says in one line what to run", len(lines) == 1, "\n".join(lines))
    runs("the service is not enabled", "systemctl is-enabled vetwatch", code=1, says=["^disabled$"])
    runs("nor does it run", "systemctl is-active vetwatch", code=3, says=["^inactive$"])
    since = time.time()
    runs("`systemctl start` fails", "systemctl start vetwatch", code=1)
    seen = unit("ExecMainStatus", "ActiveState", "SubState", "NRestarts")
    expected = {"ExecMainStatus": "78", "ActiveState": "failed", "SubState": "failed", "NRestarts": "0"}
    see("exit code 78, and systemd does not try again", seen == expected, seen)
    log = until("the log", lambda: journal(since))
    see("the journal names `vetwatch init`", "vetwatch init" in log, log)


def configured():
    """Configured by `vetwatch init`, which tries each answer and keeps the secrets"""
    start_sandbox()
    options = f"""--tenant {TENANT} --client-id {CLIENT} --client-secret-file /root/sandbox-secret --partner rehearsal
        --api-url {SANDBOX} --login-url {SANDBOX} --smtp-host 127.0.0.1 --smtp-port 25 --smtp-tls none
        --from vetwatch@contoso.example --to sales@contoso.example --operators ops@contoso.example"""
    runs("`vetwatch init`, with an option for each question", f"vetwatch init {' '.join(options.split())}")
    until("the test in the operators' mailbox", lambda: mails("ops"))
    see("its test arrives in the operators' mailbox", True, mails("ops")[0])
    runs("`vetwatch check`", "vetwatch check", says=["vetwatch.toml: OK"])
    done = Done(f"stat -c '%A %U:%G %n' /etc/vetwatch /etc/vetwatch/* /etc/vetwatch/credentials/* {DATA}")
    expected = {
        "/etc/vetwatch": "drwxr-xr-x root:root",
        str(CONFIGURATION): "-rw-r--r-- root:root",
        str(CREDENTIALS): "drwx------ root:root",
        str(CREDENTIALS / "client-secret"): "-rw------- root:root",
        str(DATA): "drwxr-x--- vetwatch:vetwatch",
    }
    found = {line.split(" ", 2)[2]: line.rsplit(" ", 1)[0] for line in done.text.splitlines()}
    see("owners and modes", all(found.get(name) == mode for name, mode in expected.items()), done.text)


def started():
    """Enabled and started: a service of Type=notify with systemd's credentials, in its sandbox"""
    runs("`systemctl enable --now`", "systemctl enable --now vetwatch")
    seen = unit("Type", "ActiveState", "SubState", "UnitFileState")
    expected = {"Type": "notify", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled"}
    see("it runs", seen == expected, f"{seen}\n{unit('StatusText')}")
    began()
    text = until("a sentence that counts the customers", lambda: re.search("^watches 16 customers.*", unit("StatusText")))
    see("systemd knows its state in a sentence", True, text[0])
    runs("systemd loaded the credentials", "ls -l /run/credentials/vetwatch.service", says=["client-secret"])
    command = f"runuser -u vetwatch -- cat {CREDENTIALS}/client-secret"
    runs("the daemon's user cannot read where they come from", command, code=1, says=["Permission denied"])
    done = Done("systemd-analyze security vetwatch --no-pager")
    rating = re.search(r"Overall exposure level for vetwatch.service: ([\d.]+)", done.text)
    see("`systemd-analyze security` is at most 1.1", rating and float(rating[1]) <= 1.1, rating and rating[0])
    is_well()
    Done("usermod --append --groups vetwatch analyst")
    runs("`vetwatch status` of a member of the group", "runuser -u analyst -- vetwatch status", says=["^all is well"])
    runs("who cannot read the secrets", f"runuser -u analyst -- ls {CREDENTIALS}", code=2, says=["Permission denied"])
    runs("and no stranger reads the database", "runuser -u ops -- vetwatch status", code=1)
    runs("the database's owner and mode", f"stat -c '%A %U:%G' {DATA}/vetwatch.db", says=["^-rw-r----- vetwatch:vetwatch$"])


def told():
    """A verdict is mailed"""
    arrives(deny("Not an Academic Domain"))


def reloaded():
    """Reloaded with a good and a bad file"""
    pid, text = unit("MainPID"), CONFIGURATION.read_text()
    CONFIGURATION.write_text(text := text.replace('in_review = "2s"', 'in_review = "3s"'))
    runs("`vetwatch reload` with a good file says what changed", "vetwatch reload", says=["in_review"])
    CONFIGURATION.write_text(text := text + RETRY)
    since = time.time()
    runs("so does `systemctl reload`", "systemctl reload vetwatch")
    see("in the journal", "retry" in journal(since), journal(since))
    CONFIGURATION.write_text(text.replace("in_review =", "in_revew =").replace('smtp = "office"', 'smtp = "ofice"'))
    runs("`vetwatch reload` with a bad one names every problem", "vetwatch reload", code=78, says=["in_revew", "ofice"])
    runs("`systemctl reload` fails", "systemctl reload vetwatch", code=1)
    see("`systemctl status` says so", "refused" in unit("StatusText"), unit("StatusText"))
    runs("so does `vetwatch status`", "vetwatch status", code=3, says=["refused"])
    arrives(deny("Not an Education Customer"), "the earlier one goes on: a verdict arrives")
    CONFIGURATION.write_text(text)
    runs("corrected and reloaded", "vetwatch reload")
    is_well("all is well again")
    see("it is still the same process", unit("MainPID") == pid, pid)


def starved():
    """Starved of its watchdog: systemd ends it and starts it again"""
    folder = pathlib.Path("/etc/systemd/system/vetwatch.service.d")
    folder.mkdir()
    (folder / "watchdog.conf").write_text("[Service]\nWatchdogSec=20\n")
    Done("systemctl daemon-reload")
    runs("with a watchdog of 20 s, for this test", "systemctl restart vetwatch")
    pid, since = unit("MainPID"), time.time()
    say(f"     the daemon is stopped by SIGSTOP, process {pid}")
    os.kill(int(pid), signal.SIGSTOP)
    customer = deny("Not an Academic Domain - After Review")
    until("another process", lambda: unit("MainPID") not in (pid, "0") and unit("ActiveState") == "active")
    log = journal(since, "_PID=1")
    see("the watchdog ended it, and systemd started it again", "Watchdog timeout" in log, log)
    arrives(customer, "what was decided meanwhile arrives")
    (folder / "watchdog.conf").unlink()
    folder.rmdir()
    Done("systemctl daemon-reload")


def killed():
    """Killed: systemd starts it again, and nothing is lost"""
    pid = unit("MainPID")
    runs("SIGKILL", "systemctl kill --signal=KILL vetwatch")
    customer = deny("Organization name does not match")
    until("another process", lambda: unit("MainPID") not in (pid, "0") and unit("ActiveState") == "active")
    see("systemd has started it again", True, unit("NRestarts", "Result", "ActiveState"))
    arrives(customer, "what was decided meanwhile arrives")
    is_well()


def backed_up():
    """Backed up, lost, and restored"""
    nightly = until("the first backup of [backup]", lambda: list((DATA / "backups").glob("vetwatch-*.db")))
    see("[backup], which `init` wrote, has made its first one", len(nightly) == 1, nightly[0])
    runs("`vetwatch backup`", "vetwatch backup /root/copy.db", says=["checked"])
    runs("the copy's owner and mode", "stat -c '%A %U:%G' /root/copy.db", says=["^-rw-r----- vetwatch:vetwatch$"])
    customer = deny("Decided after the backup")
    first = arrives(customer)
    Done("systemctl stop vetwatch")
    runs("the database is lost", f"rm {DATA}/vetwatch.db*")
    runs("`vetwatch restore`", "vetwatch restore /root/copy.db")
    since = time.time()
    Done("systemctl start vetwatch")
    is_well()
    see("the log says that it was restored", "backup" in journal(since), journal(since))
    until("the verdict again", lambda: len(verdicts(customer)) > 1)
    seen = "\n".join(map(" ".join, verdicts(customer)))
    see("what was decided after the backup is told again, under the same id", {it[0] for it in verdicts(customer)} == {first}, seen)


def reboots():
    """Rebooted with a message that waits for the mail server"""
    Done("systemctl stop exim4")
    customer = deny("Decided before the reboot")
    waits = until("a message that waits", pending)
    see("the mail server is down, and the message waits", len(waits) == 1, waits)
    STATE.write_text(json.dumps({"next": STEPS.index(rebooted), "customer": customer, "id": waits[0]["delivery_id"]}))
    say("     reboot")
    Done("systemctl reboot")
    time.sleep(600)


def rebooted():
    """After the reboot"""
    state = json.loads(STATE.read_text())
    until("the service", lambda: unit("ActiveState") == "active")
    see("the service runs again", True, unit("ActiveState", "SubState", "StatusText"))
    message = arrives(state["customer"], "the message arrives")
    see("under the id that it had", state["id"] in message, state["id"])


def quiet():
    """The journal of all this"""
    lines = set(Done("journalctl -u vetwatch -o cat -p warning").text.splitlines())
    surprising = [line for line in lines if not any(re.search(expected, line) for expected in WARNINGS)]
    see("no warning or error but those that belong to these steps", not surprising, "\n".join(sorted(surprising or lines)))
    everything = Done("journalctl -u vetwatch -o verbose").text
    see("no secret in it", SECRET not in everything and "runs" in everything, f"{len(everything)} characters")


# What the steps above bring about.
WARNINGS = [
    "^(Failed to start|Reload failed for) vetwatch.service",
    "^vetwatch.service: (Failed with result '(exit-code|watchdog|signal)'|Watchdog timeout|Main process exited)",
    "operators.endpoints: ",  # both mailboxes are at one server
    "are polled late",  # after the watchdog's 20 s: a rehearsal polls every 3 s
    "(did not take a message|cannot be reached|cannot reach).*Connection refused",
    "is refused, and that of|^vetwatch.toml:",  # the bad file
    "^the database was restored at",
]


def removed():
    """Removed: the service is gone, configuration and data are kept"""
    runs("apt removes it", f"{APT} remove vetwatch")
    runs("no process is left", "ls -l /proc/[0-9]*/exe 2>/dev/null | grep /usr/bin/vetwatch", code=1)
    runs("no unit is left", "systemctl list-unit-files vetwatch.service", code=1, says=["0 unit files"])
    runs("nor a failed one", "systemctl list-units --all --no-legend 'vetwatch*'", never=["."])
    runs("configuration, secrets and data are kept", f"ls {CONFIGURATION} {CREDENTIALS}/client-secret {DATA}/vetwatch.db")


def purged():
    """Purged: nothing is left but the database, and it says so"""
    runs("apt purges it", f"{APT} purge vetwatch", says=[str(DATA)])
    done = Done(f"find / /run -xdev -path {MAILBOXES} -prune -o -iname '*vetwatch*' -prune -print")
    see("nothing is left but the database", done.text.splitlines() == [str(DATA)], done.text)
    runs("no unit is known", "systemctl list-units --all --no-legend 'vetwatch*'", never=["."])
    Done(f"rm -r {DATA}")


def earlier():
    """The package of an earlier commit, configured by hand"""
    runs("apt installs it", f"{APT} install /probe/old.deb")
    CONFIGURATION.write_text(BY_HAND + RETRY)
    since = time.time()
    runs("without the secret it does not start", "systemctl start vetwatch", code=1)
    log = journal(since)
    see("and says what is missing and what to do", "/etc/vetwatch/credentials/client-secret" in log and "denied" not in log, log)
    write_secret("client-secret", SECRET)
    start_sandbox()
    shutil.rmtree(MAILBOXES / "ops/Maildir")
    runs("with it, it does", "systemctl enable --now vetwatch")
    began()


def upgraded():
    """Upgraded with a message that waits for the mail server"""
    Done("systemctl stop exim4")
    customer = deny("Decided before the upgrade")
    waits = until("a message that waits", pending)
    pid, version = unit("MainPID"), Done("vetwatch --version").text
    runs("apt upgrades it", f"{APT} install /probe/new.deb", never=["vetwatch:"])
    runs("the version", "dpkg-query -W vetwatch; vetwatch --version")
    until("another process", lambda: unit("MainPID") not in (pid, "0") and unit("ActiveState") == "active")
    see("the service was restarted", True, unit("ActiveState", "StatusText"))
    see("the message still waits", [it["delivery_id"] for it in pending()] == [waits[0]["delivery_id"]], pending())
    Done("systemctl start exim4")
    message = arrives(customer, "it arrives")
    see("under the id that it had", waits[0]["delivery_id"] in message, message)
    is_well()


def leads():
    """With [standby], in the sandbox of the unit: etcd elects it, and Litestream replicates"""
    shutil.copy("/probe/litestream", "/usr/bin/litestream")
    Done("systemd-run --quiet --unit=elector etcd --data-dir /var/lib/elector")
    text = CONFIGURATION.read_text()
    CONFIGURATION.write_text(text + STANDBY)
    runs("restarted with [standby]", "systemctl restart vetwatch")

    def standby():
        done = Done("vetwatch status --json")
        return json.loads(done.text).get("standby") if done.text.startswith("{") else None

    def leader():
        found = standby()
        return found and found["role"] == "leader" and found["replica"]["synced_at"] and found

    see("it leads, and its replica is complete", True, until("a leader", leader))
    is_well()
    done = Done("systemd-analyze security vetwatch --no-pager | tail -1")
    see("in the sandbox of the unit", "1.1" in done.text, done)
    arrives(deny("Decided for a leader"))
    replica = f"file://{DATA}/replica/epoch-{leader()['leader']['epoch']}"
    runs("the replica can be restored", f"litestream restore -o /root/replica.db {replica}")
    ours, theirs = (f"python3 -c \"import sqlite3; print(*sqlite3.connect('{it}').execute('select count(*) from v_transitions').fetchone())\"" for it in (f"{DATA}/vetwatch.db", "/root/replica.db"))
    see("and has every transition", Done(ours).text == Done(theirs).text, Done(theirs))
    pid = Done("pidof litestream").text
    os.kill(int(pid), signal.SIGKILL)
    until("another Litestream", lambda: Done("pidof litestream").text not in (pid, ""))
    arrives(deny("Decided after Litestream was killed"), "Litestream is killed and started again: a verdict arrives")
    runs("stopped", "systemctl stop vetwatch; pidof litestream", code=1)
    CONFIGURATION.write_text(text)
    runs("started without [standby]", "systemctl start vetwatch")
    is_well()
    arrives(deny("Decided for one host"))


def once():
    """Every verdict arrived once"""
    ids = [it[0] for it in mails("sales", "Microsoft ID")]
    repeated = [it for it in set(ids) if ids.count(it) > 1]
    seen = f"{len(ids)} mails, {len(set(ids))} ids; twice: {' '.join(repeated)}"
    see("but for the one that the restore repeated under its id", len(repeated) == 1 and len(ids) == len(set(ids)) + 1, seen)


STEPS = [
    unconfigured, configured, started, told, reloaded, starved, killed, backed_up, reboots, rebooted, quiet, removed, purged,
    earlier, upgraded, leads, once,
]  # fmt: skip


def main():
    first = json.loads(STATE.read_text())["next"] if STATE.exists() else 0
    if first == 0:
        runs("the system is up", "systemctl is-system-running --wait; uname -r; systemctl --version | head -1", says=["^running"])
    for number, step in list(enumerate(STEPS))[first:]:
        say(f"{number + 1}. {step.__doc__}")
        try:
            step()
        except Exception:
            see(f"{step.__name__} could not be done", False, traceback.format_exc(limit=-2))
    say("the probe has ended")
    Done("systemctl poweroff")


main()
