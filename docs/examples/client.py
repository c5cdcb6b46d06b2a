#!/usr/bin/env python3
"""A complete client of portwrap's agent, with nothing but Python's own library.

    client.py port [SERVICE]       the port of the project of this directory
    client.py get SERVICE          the same, allocated if there is none
    client.py check PORT           is it free, and who has it
    client.py list                 every port of every project
    client.py watch [COUNT]        what happens to ports, as it happens

Exit status 1: the agent refuses, 69: there is no agent. (`portctl agent start` starts one.)
"""

import json
import os
import socket
import sys


class Refusal(Exception):
    """What the agent says instead of a result: code, message, details, suggestions."""

    def __init__(self, refusal):
        super().__init__(refusal["message"])
        self.code = refusal["code"]
        self.suggestions = refusal["suggestions"]


def socket_paths():
    """Where the agent may listen: for who has this environment, and where the registry's lock says."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    for directory in [f"{runtime}/portwrap"] if runtime else [f"/run/user/{os.getuid()}/portwrap", f"/tmp/portwrap-{os.getuid()}"]:
        yield f"{directory}/agent.sock"
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    try:
        with open(f"{state}/portwrap/agent.lock", encoding="utf-8") as lock:
            yield lock.read().strip()
    except OSError:
        pass


def connect():
    for path in socket_paths():
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(30)
        try:
            connection.connect(path)
            return connection
        except (FileNotFoundError, ConnectionRefusedError, PermissionError):
            connection.close()
    raise ConnectionError("nobody listens at " + " or ".join(socket_paths()))


class Agent:
    """One connection. Requests are answered in their order, each with one line."""

    def __init__(self):
        self._socket = connect()
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._last_id = 0

    def call(self, method, **params):
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        reply = self._message()
        if "error" in reply:
            raise Refusal(reply["error"].get("data") or {"code": "INVALID_REQUEST", "message": reply["error"]["message"], "suggestions": []})
        return reply["result"]

    def events(self, **params):
        """An endless stream; the connection answers nothing else afterwards."""
        self.call("lease.watch", **params)
        self._socket.settimeout(None)
        while True:
            yield self._message()["params"]

    def _message(self):
        line = self._lines.readline()
        if not line:
            raise ConnectionError("the agent has ended the connection")
        return json.loads(line)


def show(lease):
    print(f"{lease['project']['name']}/{lease['service']} {lease['port']} {lease['state']}", flush=True)


def main(words):
    command, arguments = (words[0], words[1:]) if words else ("", [])
    here = {"cwd": os.getcwd()}
    agent = Agent()
    if command == "port":
        service = {"service": arguments[0]} if arguments else {}
        print(agent.call("lease.port", **here, **service)["lease"]["port"])
    elif command == "get" and arguments:
        print(agent.call("lease.get", **here, service=arguments[0])["lease"]["port"])
    elif command == "check" and arguments:
        found = agent.call("port.check", **here, port=int(arguments[0]))
        print("free" if found["available"] else f"taken, free instead: {found['suggestions']}")
    elif command == "list":
        for lease in agent.call("lease.list", all=True)["leases"]:
            show(lease)
    elif command == "watch":
        left = int(arguments[0]) if arguments else None
        for event in agent.events(all=True):
            print(event["event"], end=" ")
            show(event["lease"])
            if left is not None:
                left -= 1
                if left == 0:
                    break
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refusal as refusal:
        print(f"{refusal.code}: {refusal}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"no agent: {error}", file=sys.stderr)
        sys.exit(69)
