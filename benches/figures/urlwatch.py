"""urlwatch for comparison: the same requests to the same server in the same run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .peer import Peer
from .processes import Failed, Usage, environment, timed

VERSION = "2.29"


def install(folder: Path) -> Path | None:
    """urlwatch in an environment of its own, kept for the next time; None if it cannot be had."""
    program = folder / "bin" / "urlwatch"
    done = folder / f"installed-{VERSION}"
    if not done.exists():
        print(f"installing urlwatch {VERSION} into {folder} …", file=sys.stderr)
        steps = [
            [sys.executable, "-m", "venv", "--clear", folder],
            [folder / "bin" / "python", "-m", "pip", "install", "--quiet", f"urlwatch=={VERSION}"],
        ]
        for step in steps:
            ended = subprocess.run(step, stdin=subprocess.DEVNULL, env=environment(), capture_output=True, check=False)
            if ended.returncode != 0:
                print(ended.stderr.decode(errors="replace")[-500:], file=sys.stderr)
                return None
        done.touch()
    return program


class Urlwatch:
    def __init__(self, program: Path, folder: Path, peer: Peer, customers: list[str]) -> None:
        folder.mkdir()
        self.folder, self.program, self.peer, self.count = folder, program, peer, len(customers)
        headers = {"Authorization": f"Bearer {peer.token()}", "Accept": "application/json"}
        urls = (f"{peer.url}v1/customers/{customer}/qualifications" for customer in customers)
        # JSON is YAML.
        jobs = [json.dumps({"name": url, "url": url, "headers": headers}) for url in urls]
        (folder / "urls.yaml").write_text("\n---\n".join(jobs) + "\n")
        (folder / "hooks.py").touch()
        # Other settings have their defaults.
        (folder / "urlwatch.yaml").write_text("report:\n  stdout:\n    enabled: true\n")

    def run(self) -> Usage:
        """One run over all jobs; fails unless every request got a response."""
        before = self.peer.statuses().get("200", 0)
        log = self.folder / "log"
        named = {"urls": "urls.yaml", "config": "urlwatch.yaml", "hooks": "hooks.py", "cache": "cache.db"}
        options = [argument for name, file in named.items() for argument in (f"--{name}", str(self.folder / file))]
        usage = timed([self.program, *options], log)
        answered = self.peer.statuses().get("200", 0) - before
        if answered != self.count:
            raise Failed(f"urlwatch got {answered} answers instead of {self.count}")
        return usage
