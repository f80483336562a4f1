"""A program's end of the agent's bridge: JSON lines over a Unix socket. Standard library only; Python 3.9 or newer.

    with Bridge("/run/user/1000/heliograph/agent.sock") as bridge:
        bridge.broadcast({"type": "ping"})
        for kind, payload in bridge.notices(timeout=5):
            print(kind, payload)
"""

import json
import socket
import time
from collections import deque


class Refused(Exception):
    """The agent did not carry out a command. `code` is for programs, the text for people."""

    def __init__(self, payload):
        super().__init__(payload.get("message", "refused"))
        self.code = payload.get("code")
        self.peer = payload.get("peer")


class Gone(Exception):
    """The agent has closed the socket, or cannot be reached."""


class Bridge:
    """One connection to an agent. Not for several threads: each may open its own."""

    def __init__(self, path, timeout=30):
        """Connects to the socket at `path`; `timeout` seconds are the most that a command waits for its answer."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._timeout = timeout
        self._unread = b""
        self._notices = deque()
        self._last_id = 0
        try:
            self._socket.connect(str(path))
        except OSError as error:
            raise Gone(f"no agent answers at {path}: {error.strerror}") from error

    def send(self, peer, message):
        """Hands `message` (a dict with a string `type`) to the channel with `peer`."""
        self._command("send", {"target_peer": peer, "message": message})

    def broadcast(self, message):
        """Hands `message` to all open channels; how many took it."""
        return self._command("broadcast", {"message": message}).get("peers", 0)

    def connect(self, peer):
        """Begins a connection; `peer_connected` tells when the channel is open."""
        self._command("connect", {"target_peer_id": peer})

    def peers(self):
        """The ids of the peers with whom there are connections, also those that are not open yet."""
        return self._command("list_peers", {})["peers"]

    def status(self):
        """How the agent fares: its state, its own peer id, its connections."""
        return self._command("status", {})

    def notices(self, timeout=None):
        """What happens, as (type, payload), until `timeout` seconds from now are over; without one, for ever."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (notice := self._notices.popleft() if self._notices else self._line(deadline)) is not None:
            yield notice["type"], notice["payload"]

    def close(self):
        """Leaves; the agent and its channels stay."""
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _command(self, kind, payload):
        """Sends a command and returns the payload of its answer. What comes before that is kept for `notices`."""
        self._last_id += 1
        command = json.dumps({"type": kind, "id": self._last_id, "payload": payload})
        deadline = time.monotonic() + self._timeout
        self._do(self._socket.sendall, command.encode() + b"\n", deadline)
        while (answer := self._line(deadline)) is not None:
            if answer.get("id") != self._last_id:
                self._notices.append(answer)
            elif answer["type"] == "error":
                raise Refused(answer["payload"])
            else:
                return answer["payload"]
        raise Gone(f"the agent did not answer `{kind}` within {self._timeout} s")

    def _line(self, deadline):
        """The next line as a dict; None when the deadline is over."""
        while True:
            line, end, rest = self._unread.partition(b"\n")
            if end:
                self._unread = rest
                try:
                    return json.loads(line)
                except (ValueError, RecursionError):
                    continue  # a peer may nest deeper than this Python reads: that message is not for us
            try:
                data = self._do(self._socket.recv, 65536, deadline)
            except socket.timeout:
                return None
            if not data:
                raise Gone("the agent has closed the socket")
            self._unread += data

    def _do(self, call, argument, deadline):
        """Reads or writes, until the deadline."""
        self._socket.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
        try:
            return call(argument)
        except socket.timeout:
            raise
        except OSError as error:
            raise Gone(f"the agent is gone: {error.strerror}") from error
