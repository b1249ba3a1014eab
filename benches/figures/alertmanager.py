"""Alertmanager for comparison: the same number of notifications to the same receiver in the same run."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from .processes import Failed, ending, environment, until

# No proxy between us and loopback, whatever the environment says.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def program() -> str | None:
    """Debian's, or the project's own name for it; None if it is not installed."""
    return shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


class Alertmanager:
    def __init__(self, process: int, url: str) -> None:
        self.process, self.url = process, url

    def fire(self, alerts: list[str]) -> None:
        """Posts alerts that differ in a label, in one request."""
        body = [{"labels": {"alertname": "approved", "customer": alert}} for alert in alerts]
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/v2/alerts", json.dumps(body).encode(), headers)
        with _direct.open(request, timeout=60) as answer:
            answer.read()


@contextlib.contextmanager
def running(folder: Path, hook: str) -> Iterator[Alertmanager]:
    """Runs it with a group for each alert and no wait, which is how each notification is one's own and leaves at once."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    receiver = {"name": "crm", "webhook_configs": [{"url": hook, "send_resolved": False}]}
    route = {"receiver": "crm", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
    configuration = folder / "alertmanager.yml"
    configuration.write_text(json.dumps({"route": route, "receivers": [receiver]}))  # JSON is YAML
    command = [program() or "", f"--config.file={configuration}", f"--storage.path={folder / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    log = folder / "alertmanager.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment(), cwd=folder
        )
        url = f"http://127.0.0.1:{port}"
        with ending(child):
            until("an Alertmanager that is ready", lambda: _is_ready(url, child, log))
            yield Alertmanager(child.pid, url)


def _is_ready(url: str, child: subprocess.Popen[bytes], log: Path) -> bool:
    if child.poll() is not None:
        raise Failed(f"Alertmanager did not start:\n{log.read_text(errors='replace')}")
    with contextlib.suppress(OSError), _direct.open(f"{url}/-/ready", timeout=5) as answer:
        return answer.status == 200
    time.sleep(0.05)
    return False
