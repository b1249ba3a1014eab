"""Boots a Debian system with a real systemd, and installs, uses, upgrades and removes the vetwatch package in it.

Run by `tests/campaign install`, as root: `boot_install.py OLD.deb NEW.deb WORK`. Makes the system's disk in the folder
WORK once, and boots it with qemu in software emulation; what the guest writes to its disk is thrown away. In the guest
boot_probe.py does the steps; it comes on a second disk with the packages, and reports on the second serial port.

Prints what was seen, step by step; the last line is `N passed, N failed`. WORK keeps console.log and journal.log of the
last run.
"""

import argparse
import hashlib
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SUITE = "bookworm"
PACKAGES = "systemd systemd-sysv dbus udev linux-image-cloud-amd64 ca-certificates iproute2 python3 exim4-daemon-light etcd-server".split()
USERS = ["sales", "ops", "analyst"]  # two mailboxes, and a person who may read the database
TIMEOUT = 2700  # of the whole run; emulation is ten times slower than the machine, and other work may run beside it
SILENCE = 600  # without a line of the probe

FILES = {
    "etc/hostname": "vetwatch\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 vetwatch.contoso.example vetwatch\n",
    "etc/fstab": "/dev/vdb /probe ext4 ro 0 0\n",
    "etc/mailname": "contoso.example\n",
    # Exim takes mail on port 25 of this machine, for the users of contoso.example only, into Maildirs.
    "etc/exim4/update-exim4.conf.conf": """dc_eximconfig_configtype='local'
dc_other_hostnames='contoso.example'
dc_local_interfaces='127.0.0.1'
dc_localdelivery='maildir_home'
dc_use_split_config='false'
""",
    # Its script of old leaves the process of an open connection alive.
    "etc/systemd/system/exim4.service.d/stop.conf": "[Service]\nKillMode=control-group\n",
    "etc/systemd/system/boot-probe.service": """[Service]
Type=exec
ExecStart=/usr/bin/python3 /probe/boot_probe.py
StandardOutput=file:/dev/ttyS1
Environment=PYTHONUNBUFFERED=1 LANG=C.UTF-8
[Install]
WantedBy=multi-user.target
""",
    "etc/systemd/system/boot-journal.service": """[Service]
ExecStart=/usr/bin/journalctl --follow --no-tail --output=short-precise
StandardOutput=file:/dev/ttyS2
[Install]
WantedBy=multi-user.target
""",
}
UNITS_OFF = ["serial-getty@ttyS0.service", "getty@tty1.service", "apt-daily.timer", "apt-daily-upgrade.timer", "etcd.service"]


def base(work):
    """The disk, kernel and initial ramdisk of the system; made again if what goes in has changed."""
    key = hashlib.sha256(repr((SUITE, PACKAGES, USERS, FILES, UNITS_OFF)).encode()).hexdigest()[:16]
    folder = work / f"debian-{key}"
    if (folder / "complete").exists():
        return folder
    print(f"making the disk of a Debian system ({SUITE}), once", flush=True)
    for old in work.glob("debian-*"):
        shutil.rmtree(old)
    root = folder / "root"
    folder.mkdir(parents=True)
    run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root)
    for name, content in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content)
    (root / "probe").mkdir()
    for user in USERS:
        run("chroot", root, "useradd", "--create-home", user)
    run("chroot", root, "systemctl", "--quiet", "enable", "boot-probe", "boot-journal")
    run("chroot", root, "systemctl", "--quiet", "mask", *UNITS_OFF)
    for link, name in [("vmlinuz", "kernel"), ("initrd.img", "initrd")]:
        shutil.copy(root / link, folder / name)
    disk(folder / "root.img", root, 3 << 30)
    shutil.rmtree(root)
    (folder / "complete").touch()
    return folder


def disk(image, folder, size):
    image.unlink(missing_ok=True)
    image.touch()
    os.truncate(image, size)
    run("mke2fs", "-q", "-t", "ext4", "-d", folder, image)


def run(*command):
    subprocess.run(command, check=True)


def probe_disk(work, old, new):
    """The second disk: what changes from run to run."""
    folder, image = work / "probe", work / "probe.img"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(HERE / "boot_probe.py", folder)
    shutil.copy(old, folder / "old.deb")
    shutil.copy(new, folder / "new.deb")
    # `vetwatch sandbox` is the simulated Partner Center; it must not come and go with the package.
    shutil.rmtree(work / "unpacked", ignore_errors=True)
    run("dpkg-deb", "--extract", new, work / "unpacked")
    shutil.copy(work / "unpacked/usr/bin/vetwatch", folder / "sandbox")
    shutil.copy(HERE.parent.parent / ".venv/bin/litestream", folder)
    disk(image, folder, 300 << 20)
    return image


def boot(base, probe, work):
    disk = "if=virtio,format=raw,file="
    return subprocess.Popen(
        ["qemu-system-x86_64", "-accel", "tcg", "-m", "1024", "-smp", "2", "-display", "none", "-net", "none"]
        + ["-kernel", base / "kernel", "-initrd", base / "initrd"]
        + ["-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1"]
        + ["-drive", f"{disk}{base / 'root.img'},snapshot=on", "-drive", f"{disk}{probe},readonly=on"]
        + ["-serial", f"file:{work / 'console.log'}", "-serial", "stdio", "-serial", f"file:{work / 'journal.log'}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )


def lines(guest):
    """What the probe reports, until the guest is off. Raises TimeoutError if it takes too long."""
    end, rest = time.monotonic() + TIMEOUT, b""
    while True:
        wait = min(SILENCE, end - time.monotonic())
        if not select.select([guest.stdout], [], [], max(wait, 0))[0]:
            raise TimeoutError
        if not (more := os.read(guest.stdout.fileno(), 65536)):
            return
        *whole, rest = (rest + more).split(b"\n")
        yield from (line.decode(errors="replace").rstrip("\r") for line in whole)


def main():
    arguments = argparse.ArgumentParser()
    for name in ["old", "new", "work"]:
        arguments.add_argument(name, type=pathlib.Path)
    given = arguments.parse_args()
    work = given.work.resolve()
    system = base(work)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the guest must not survive
    guest = boot(system, probe_disk(work, given.old, given.new), work)
    start, counts, ended = time.monotonic(), {"ok": 0, "FAILED": 0}, False
    try:
        for line in lines(guest):
            print(f"{time.monotonic() - start:6.0f} s  {line}", flush=True)
            word = line.strip().split(":")[0]
            if word in counts:
                counts[word] += 1
            ended |= line == "the probe has ended"
    except TimeoutError:
        print(f"the guest says nothing more, or takes longer than {TIMEOUT} s")
    finally:
        guest.kill()
        guest.wait()
    if not ended:
        counts["FAILED"] += 1
        print("FAILED: the probe did not come to its end")
    if counts["FAILED"]:
        print(f"the guest's console and journal: {work / 'console.log'}, {work / 'journal.log'}")
    print(f"{counts['ok']} passed, {counts['FAILED']} failed")
    sys.exit(counts["FAILED"] > 0)


if __name__ == "__main__":
    main()
