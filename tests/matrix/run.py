#!/usr/bin/python3
"""Real servers under portwrap, as people start them: in two worktrees of one repository and in an unrelated project, with
the installed programs and private XDG directories. Prints a table, one line for each server; ends with status 1 when a
cell is wrong.

    PORTWRAP_PREFIX=... python3 tests/matrix/run.py [--servers a,b] [--ci] [--list] [--verbose]

The servers use their usual ports: nothing else on the machine should.

columns
  own      every copy answers with its own content on the port that `portctl port` says, in the right range
  api      the front end reaches the API of its own copy and never a sibling's, also when its own is down
  url      the server's output or portwrap's line names the URL that works
  socket   the page's websocket belongs to the page's copy (in Chromium)
  again    stopped and started all at once in the other order, each copy has its port again
  term     SIGTERM ends everything that was started, and every lease; exit status as without portwrap
  ctrl-c   the same for SIGINT to the whole foreground process group
  same     output as without portwrap, numbers apart
"""

import argparse
import contextlib
import difflib
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
sys.dont_write_bytecode = True
import house as e2e  # noqa: E402

COLUMNS = ["own", "api", "url", "socket", "again", "term", "ctrl-c", "same"]
RANGES = {**e2e.RANGES, "cache": (6379, 6389), "default": (3000, 9999)}
GONE_WITHIN = 15.0  # seconds from a signal to the end of everything


class Wrong(Exception):
    """A cell that is not as it should be."""


class House(e2e.House):
    """A house whose projects get the matrix's node modules."""

    modules = ()

    def furnish(self, root):
        if not (root / "package.json").exists():
            return
        modules = root / "node_modules"
        modules.mkdir(exist_ok=True)
        sources = [HERE / "node_modules", *(HERE / name / "node_modules" for name in self.modules)]
        (modules / ".bin").mkdir(exist_ok=True)
        for source in sources:
            for entry in source.glob("[!.]*"):
                link(modules / entry.name, entry)
            for entry in source.glob(".bin/*"):
                link(modules / ".bin" / entry.name, entry)


def link(path, target):
    if path.is_symlink():
        path.unlink()
    path.symlink_to(target)


class Copy:
    """One copy of the app: its directory, its content, its running commands."""

    def __init__(self, number, root, server):
        self.number, self.root, self.server = number, root, server
        self.content = f"content-of-{root.name}"
        self.processes = []
        self.port = None

    def write(self):
        for path, text in self.server.files.items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.replace("@CONTENT@", self.content))

    def commands(self):
        all_commands = self.server.commands
        return all_commands[:-1] if self.number == self.server.api_down_in else all_commands

    def start(self, house, wrapped=True):
        self.processes = []
        for command in self.commands():
            words = ["sh", "-c", command] if isinstance(command, str) else command
            prefix = ["portwrap"] if wrapped else []
            self.processes.append(house.start(*prefix, *words, cwd=self.root, env=self.server.environment))

    def page(self, port):
        if self.server.protocol == "redis":
            return redis_directory(port)
        if self.server.protocol == "mqtt":
            return mqtt_directory(port)
        return get(port, self.server.page)

    def output(self):
        return "\n".join(process.stdout + "\n" + process.stderr for process in self.processes)


def get(port, path):
    """(status, body) of http://localhost:PORT/PATH; (0, "") when nobody answers."""
    import http.client

    connection = http.client.HTTPConnection("localhost", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Accept": "text/html,*/*"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def redis_directory(port):
    """The working directory of a redis server stands for its content."""
    try:
        with socket.create_connection(("localhost", port), 5) as connection:
            connection.sendall(b"CONFIG GET dir\r\n")
            return 200, connection.recv(4096).decode(errors="replace")
    except OSError:
        return 0, ""


def mqtt_directory(port):
    """A broker that takes an MQTT 3.1.1 connection; the working directory of its process stands for its content."""
    try:
        with socket.create_connection(("localhost", port), 5) as connection:
            connection.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01m")
            if connection.recv(4) != b"\x20\x02\x00\x00":
                return 0, ""
    except OSError:
        return 0, ""
    for pid in e2e.every_pid():
        with contextlib.suppress(OSError):
            if e2e.really_listens(pid, port):
                return 200, os.readlink(f"/proc/{pid}/cwd")
    return 0, ""


def plain(text, *, root):
    """Output with everything taken off that differs from run to run."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace(str(root), "ROOT").replace(root.name, "ROOT")
    lines = []
    for line in text.splitlines():
        line = re.sub(r"\d+(\.\d+)?( ?(ms|s|seconds?|KiB|MiB|bytes))?", "N", line.strip())
        line = re.sub(r"http://(\[::1?\]|[0-9A-Za-z.:]+):N", "URL", line)
        if line and not line.startswith("portwrap: "):
            lines.append(line)
    return sorted(set(lines))


def members_of(session):
    """Living processes of a session (setsid), without its leader's zombie."""
    found = []
    for pid in e2e.every_pid():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(pid)
    return found


def end(process, how):
    """Sends the signal as a terminal (INT) or `kill PID` (TERM) does; the exit status and who was left behind."""
    with contextlib.suppress(ProcessLookupError):
        if how == "INT":
            os.killpg(process.pid, signal.SIGINT)
        else:
            os.kill(process.pid, signal.SIGTERM)
    try:
        status = process.wait(GONE_WITHIN)
    except subprocess.TimeoutExpired:
        status = "does not end"
    deadline = time.monotonic() + 3
    while (left := members_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    names = sorted({Path(f"/proc/{pid}/comm").read_text().strip() for pid in left if Path(f"/proc/{pid}").exists()})
    process.kill()
    return status, names


def wait_for_page(copy, port, what):
    deadline = time.monotonic() + copy.server.patience
    status, body = 0, ""
    while time.monotonic() < deadline:
        status, body = copy.page(port)
        if status == 200 and body:
            return body
        if any(not process.running() for process in copy.processes):
            break
        time.sleep(0.1)
    raise Wrong(f"{what}: no page on {port} (last status {status})\n{copy.output()}")


class Trial:
    """One server through all columns."""

    def __init__(self, name, server, prefix, verbose):
        self.name, self.server, self.prefix, self.verbose = name, server, prefix, verbose
        self.cells = dict.fromkeys(COLUMNS, "-")
        self.notes = []

    def cell(self, column, check):
        """Runs a check: "ok", or what is wrong; a cell that cannot be right must be wrong."""
        if self.cells[column] not in ("-", "ok"):
            return
        try:
            check()
            result = "ok"
        except Wrong as wrong:
            result = "WRONG"
            reason = str(wrong)
        known = self.server.cannot.get(column)
        if known:
            if result == "ok":
                self.cells[column] = "ok"
            else:
                self.cells[column] = "cannot"
                self.notes.append(f"{column}: {known}")
            return
        self.cells[column] = result
        if result != "ok":
            self.notes.append(f"{column}: {reason}")

    def run(self):
        directory = tempfile.mkdtemp(prefix="pwm-", dir="/tmp")
        house = House(directory, self.prefix)
        house.modules = self.server.modules
        house.env["NEXT_TELEMETRY_DISABLED"] = house.env["NUXT_TELEMETRY_DISABLED"] = "1"
        house.env["BROWSER"] = "none"
        house.env["PATH"] = f"{house.env['PATH']}"
        try:
            with contextlib.ExitStack() as stack:
                if self.server.external:
                    stack.enter_context(self.outsider(house))
                self.baseline(house)
                self.wrapped(house)
        except Wrong as wrong:
            self.cells["own"] = "WRONG"
            self.notes.append(str(wrong))
        except AssertionError as wrong:
            self.cells["own"] = "WRONG"
            self.notes.append(str(wrong)[:4000])
        finally:
            if any(cell == "WRONG" for cell in self.cells.values()) and self.verbose:
                self.notes.append("agent: " + house.log[-3000:])
            house.close()
        for column in self.server.cannot:
            if self.cells[column] == "ok":
                self.cells[column] = "WRONG"
                self.notes.append(f"{column}: works, although it is documented that it cannot ({self.server.cannot[column]})")
        return self

    @contextlib.contextmanager
    def outsider(self, house):
        port, command = self.server.external
        process = house.start(*command, cwd=house.home)
        e2e.wait_until(lambda: e2e.is_listening(port), f"{command[0]} listens on {port}")
        yield
        process.dispose()

    def make(self, house, name):
        root = house.project(name)
        copy = Copy(0, root, self.server)
        copy.write()
        house.furnish(root)
        return copy

    def baseline(self, house):
        """How the app behaves without portwrap: its output, and how it ends."""
        copy = self.make(house, "plain")
        copy.number = -2
        self.status = {}
        for how in ("TERM", "INT"):
            copy.start(house, wrapped=False)
            body = wait_for_page(copy, self.server.port, "without portwrap")
            if self.server.protocol == "http" and copy.content not in body:
                raise Wrong(f"without portwrap: {self.server.page} does not show {copy.content!r}: {body[:500]}")
            self.settle(copy)
            self.plain_output = plain(copy.output(), root=copy.root)
            self.status[how] = [end(process, how) for process in reversed(copy.processes)]
            e2e.wait_until(lambda: not e2e.is_listening(self.server.port), f"{self.server.port} is free again")

    def settle(self, copy):
        """Lines that come a moment after the page does."""
        before = None
        deadline = time.monotonic() + 3
        while (now := copy.output()) != before and time.monotonic() < deadline:
            before = now
            time.sleep(0.4)

    def wrapped(self, house):
        server = self.server
        main = self.make(house, "shop")
        (main.root / ".gitignore").write_text("node_modules\ncontent.txt\n.next\n.nuxt\n__pycache__\n*.rdb\ndist\nbuild\n")
        house.git(main.root, "init", "-q", "-b", "main")
        house.git(main.root, "add", "-A")
        house.git(main.root, "commit", "-q", "-m", "An app")
        linked = house.home / "shop-fix"
        house.git(main.root, "worktree", "add", "-q", "-b", "fix", str(linked))
        fix = Copy(1, linked, server)
        fix.write()
        house.furnish(linked)
        copies = [main, fix]
        if server.three:
            other = self.make(house, "blog")
            other.number = 2
            copies.append(other)

        for copy in copies:
            copy.start(house)
            self.find_port(house, copy)
        self.cell("own", lambda: self.own_content(house, copies))
        if server.api:
            self.cell("api", lambda: self.own_api(copies))
        for copy in copies:
            self.settle(copy)
        if server.url_said:
            self.cell("url", lambda: self.right_url(copies))
        if server.same_output:
            self.cell("same", lambda: self.same_output(copies[0]))
        if server.websocket:
            self.cell("socket", lambda: self.own_websocket(house, copies))
        self.cell("term", lambda: self.all_ends(house, copies, "TERM"))
        ports = [copy.port for copy in copies]
        for copy in reversed(copies):
            copy.start(house)
        for copy in copies:
            self.find_port(house, copy)

        def kept():
            now = [copy.port for copy in copies]
            if now != ports:
                raise Wrong(f"the ports were {ports} and are {now}")
            self.own_content(house, copies)
            if server.api:
                self.own_api(copies)

        self.cell("again", kept)
        self.cell("ctrl-c", lambda: self.all_ends(house, copies, "INT"))

    def moved_itself(self, copy):
        return self.server.moves_itself and copy.number == 2

    def find_port(self, house, copy):
        deadline = time.monotonic() + self.server.patience
        copy.port = None
        while time.monotonic() < deadline:
            words = [] if self.moved_itself(copy) else [str(self.server.port)]
            done = house.portctl("port", *words, cwd=copy.root)
            if done.returncode == 0 and e2e.is_listening(int(done.stdout)):
                copy.port = int(done.stdout)
                break
            if any(not process.running() for process in copy.processes):
                break
            time.sleep(0.1)
        if copy.port is None:
            raise Wrong(f"copy {copy.number} ({copy.root.name}) has no port for {self.server.port}: "
                        f"{house.portctl('list', '--all').stdout}\n{copy.output()}")
        wait_for_page(copy, copy.port, f"copy {copy.number}")

    def own_content(self, house, copies):
        low, high = RANGES[self.server.type]
        for copy in copies:
            status, body = copy.page(copy.port)
            if copy.content not in body and not (self.server.protocol != "http" and copy.root.name in body):
                raise Wrong(f"{copy.root.name} on {copy.port} does not answer with its content but ({status}) {body[:300]!r}")
            if copy.number > 0 and not low <= copy.port <= high:
                raise Wrong(f"{copy.root.name} has {copy.port}, which is not in {self.server.type} {low}-{high}")
            lease = [one for one in house.leases(copy.root) if one["port"] == copy.port]
            asked = lease[0]["requested_port"] if lease else None
            if not lease or (asked != self.server.port and not self.moved_itself(copy)) or lease[0]["project"]["root"] != str(copy.root):
                raise Wrong(f"the lease of {copy.root.name} on {copy.port} is {lease}")
        if len({copy.port for copy in copies}) != len(copies):
            raise Wrong(f"one port twice: {[copy.port for copy in copies]}")

    def own_api(self, copies):
        contents = {copy.content: copy for copy in copies}
        for copy in copies:
            if copy.number == self.server.api_down_in:
                status, body = get(copy.port, self.server.api)
                if any(content in body for content in contents) or status == 200:
                    raise Wrong(f"{copy.root.name}'s API is down, but its front end got ({status}) {body[:200]!r}")
                continue
            deadline = time.monotonic() + 20
            while True:
                status, body = get(copy.port, self.server.api)
                foreign = [content for content, owner in contents.items() if owner is not copy and re.search(re.escape(content) + r"(?!-)", body)]
                if foreign:
                    raise Wrong(f"{copy.root.name}'s front end reached the API of {foreign}")
                if status == 200 and copy.content in body:
                    break
                if time.monotonic() > deadline:
                    raise Wrong(f"{copy.root.name}'s front end got ({status}) {body[:300]!r} of its API\n{copy.output()}")
                time.sleep(0.2)

    def right_url(self, copies):
        for copy in copies:
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", copy.output())
            said = re.search(rf"(?:localhost|127\.0\.0\.1|\[::1?\]|0\.0\.0\.0|\*)?:{copy.port}\b|\b[Pp]ort:? {copy.port}\b", text)
            # Where a copy has what it asks for, a server that says nothing says nothing wrong.
            if not said and copy.port != self.server.port:
                raise Wrong(f"nothing says {copy.port} in the output of {copy.root.name}:\n{text}")

    def same_output(self, copy):
        now = plain(copy.output(), root=copy.root)
        if now != self.plain_output:
            raise Wrong("output differs:\n" + "\n".join(difflib.unified_diff(self.plain_output, now, "without portwrap", "with", lineterm="", n=0)))

    def own_websocket(self, house, copies):
        leases = house.leases()
        pages = [f"http://localhost:{copy.port}{self.server.page}" for copy in copies]
        done = subprocess.run(["node", str(HERE / "browser.mjs"), *pages], capture_output=True, text=True, timeout=180,
                              env={**os.environ, "HOME": str(house.home)})
        if done.returncode != 0:
            raise Wrong(f"the browser failed: {done.stderr[-2000:]}")
        for copy, page in zip(copies, json.loads(done.stdout), strict=True):
            own = {lease["port"] for lease in leases if lease["project"]["root"] == str(copy.root)}
            if copy.content not in page["text"]:
                raise Wrong(f"the browser shows {page['text'][:200]!r} for {copy.root.name}")
            good = [one for one in page["sockets"] if one["received"] > 0 or (self.server.websocket_waits and not one["closed"])]
            foreign = [one["url"] for one in good if int(re.search(r":(\d+)", one["url"].split("//", 1)[1])[1]) not in own]
            if foreign:
                raise Wrong(f"the page of {copy.root.name} (ports {sorted(own)}) talks to {foreign}")
            if not good:
                raise Wrong(f"the page of {copy.root.name} has no websocket that works: {page['sockets']} {page['errors']}")

    def all_ends(self, house, copies, how):
        wrong = []
        for copy in copies:
            expected = self.status[how][-len(copy.processes):]
            for process, as_plain in zip(reversed(copy.processes), expected, strict=True):
                status, left = end(process, how)
                if (status, left) != as_plain:
                    wrong.append(f"{copy.root.name}: status {status}, left behind {left}; without portwrap {as_plain}\n{process.stdout}\n{process.stderr}")
        deadline = time.monotonic() + GONE_WITHIN
        while (live := [one for one in house.leases() if one["state"] == "active"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        if live:
            wrong.append(f"leases that are still active: {[(one['port'], one['service'], one['holder']) for one in live]}")
        for copy in copies:
            for process in copy.processes:
                process.kill()
        if wrong:
            raise Wrong("\n".join(wrong))


def end_on_signals():
    """SIGTERM and SIGHUP end the run as Ctrl-C does, so that no server is left behind."""

    def leave(number, _frame):
        for one in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        sys.exit(128 + number)

    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, leave)


def servers():
    found = {}
    for path in sorted((HERE / "servers").glob("[!_]*.py")):
        found[path.stem] = importlib.import_module(f"servers.{path.stem}").SERVER
    return found


def missing_for(server):
    """What a machine must have for it and has not: programs, modules of Python ("python: NAME"), directories of node modules."""
    missing = [program for program in server.needs if not program.startswith("python:") and not shutil.which(program)]
    for module in (need.split(":")[1].strip() for need in server.needs if need.startswith("python:")):
        if subprocess.run(["/usr/bin/python3", "-c", f"import {module}"], capture_output=True).returncode != 0:
            missing.append(f"{module} of Python")
    return missing + [f"{name}/node_modules" for name in server.modules if not (HERE / name / "node_modules").is_dir()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=__doc__.split("\n\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", help="names, separated by commas")
    parser.add_argument("--ci", action="store_true", help="the subset that runs in CI, ten minutes at most")
    parser.add_argument("--list", action="store_true", help="print the servers' names")
    parser.add_argument("--verbose", action="store_true", help="the agent's log with what is wrong")
    options = parser.parse_args()
    known = servers()
    names = options.servers.split(",") if options.servers else [name for name, one in known.items() if one.ci or not options.ci]
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no such server: {', '.join(unknown)}")
    if options.list:
        print("\n".join(names))
        return 0
    prefix = os.environ.get("PORTWRAP_PREFIX") or str(Path(shutil.which("portwrap") or "/nowhere/bin/portwrap").parent.parent)
    if not (Path(prefix) / "bin" / "portwrap").exists():
        parser.error(f"PORTWRAP_PREFIX={prefix}: must name the directory that portwrap is installed in")
    end_on_signals()
    width = max(len(name) for name in names)
    print("server".ljust(width), *[column.ljust(7) for column in COLUMNS], "time")
    passed = failed = skipped = 0
    notes = []
    for name in names:
        missing = missing_for(known[name])
        if missing:
            print(name.ljust(width), f"left out: no {', '.join(missing)}", flush=True)
            skipped += 1
            continue
        began = time.monotonic()
        trial = Trial(name, known[name], prefix, options.verbose).run()
        print(name.ljust(width), *[trial.cells[column].ljust(7) for column in COLUMNS], f"{time.monotonic() - began:.0f} s", flush=True)
        passed += sum(cell in ("ok", "cannot") for cell in trial.cells.values())
        wrong = sum(cell == "WRONG" for cell in trial.cells.values())
        failed += wrong
        for note in trial.notes:
            (print if wrong else notes.append)(f"  {name}: {note}")
    print("\n".join(notes))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
