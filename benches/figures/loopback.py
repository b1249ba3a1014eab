"""A receiver of webhooks, on plain sockets with one thread for each connection: an instant is taken right after a request
was read to its end. Where much else goes on, the peer's own receiver measures: Python's threads wait for each other.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from dataclasses import dataclass


def _read_message(connection: socket.socket, buffer: bytearray) -> bytes | None:
    """One HTTP message with a length, head and body; None at the end of the connection."""
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        if not (more := connection.recv(65536)):
            return None
        buffer += more
    length = 0
    for line in bytes(buffer[:end]).split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    whole = end + 4 + length
    while len(buffer) < whole:
        if not (more := connection.recv(65536)):
            return None
        buffer += more
    message = bytes(buffer[:whole])
    del buffer[:whole]
    return message


class _Server:
    """Serves each connection with `self.serve` until `close`."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.open.add(connection)
                threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        # A killed peer resets its connections.
        with contextlib.suppress(OSError), connection:
            self.serve(connection)
        self.open.discard(connection)

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        for connection in [self.listener, *self.open]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Hook:
    """A webhook, and when it had arrived (`time.monotonic_ns`)."""

    at: int
    id: str
    customer: str


class Receiver(_Server):
    """Receives webhooks; while `holding`, responds to none. Events without a customer (`monitor.initial_sync`) are not measured."""

    def __init__(self) -> None:
        self.hooks: queue.Queue[Hook] = queue.Queue()
        self.holding = False
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def serve(self, connection: socket.socket) -> None:
        buffer = bytearray()
        while (request := _read_message(connection, buffer)) is not None:
            at = time.monotonic_ns()
            holding = self.holding
            hook = _hook(request, at)
            if hook.customer:
                self.hooks.put(hook)
            if holding and hook.customer:
                connection.recv(1)  # until the peer disconnects
                return
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def next(self, within: float = 20) -> Hook | None:
        with contextlib.suppress(queue.Empty):
            return self.hooks.get(timeout=within)
        return None


def _hook(request: bytes, at: int) -> Hook:
    head, _, body = request.partition(b"\r\n\r\n")
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    ids = [value.strip().decode() for name, _, value in lines if name.lower() == b"webhook-id"]
    said = json.loads(body)
    alerts = said.get("alerts")  # Alertmanager's
    customer = alerts[0]["labels"]["customer"] if alerts else said["data"].get("customer", {}).get("id", "")
    return Hook(at, ids[0] if ids else "", customer)


