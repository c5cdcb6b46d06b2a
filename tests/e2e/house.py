"""What the end-to-end tests are made of: a house (private home, state, configuration and runtime directory, hence an agent
of its own), projects in it, processes that it starts and ends, and facts about ports read from the kernel, so that
what portwrap says can be compared with what is true.

Nothing here sleeps for a fixed time: readiness is a line on a pipe, the end of a process its wait status. Where no
event exists, `wait_until` asks again every few milliseconds until a deadline.
"""

import contextlib
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVERS = HERE.parent / "servers"
NODE_MODULES = SERVERS / "node_modules"
# Built with sanitizers (tests/run.sh --full): more memory, and a runtime that wants to be the first library.
SANITIZED = bool(os.environ.get("PORTWRAP_TEST_SANITIZED"))
PATIENCE = 30.0  # seconds; a deadline for what normally takes milliseconds, on a loaded machine

RANGES = {"node": (3000, 3999), "static": (4000, 4999), "python": (5000, 5999), "php": (8080, 8980)}


def wait_until(predicate, what, deadline=PATIENCE):
    """The first true value of predicate(); fails with `what` (a text, or a function that gives one) after the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what() if callable(what) else what}")
        time.sleep(0.01)


# ---------------------------------------------------------------------------------------------------------------------
# The truth, from the kernel


def listening_inodes():
    """{port: {socket inode, ...}} of every listening TCP socket, IPv4 and IPv6 (proc_net_tcp(5), state 0A)."""
    table = {}
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(name).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A":
                    table.setdefault(int(columns[1].rsplit(":", 1)[1], 16), set()).add(int(columns[9]))
    return table


def is_listening(port):
    return port in listening_inodes()


def socket_inodes(pid):
    """The sockets that a process has open; empty when it is gone."""
    inodes = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry.path))
                if match:
                    inodes.add(int(match[1]))
    return inodes


def really_listens(pid, port):
    """Whether the process has a socket open that listens on the port."""
    return bool(socket_inodes(pid) & listening_inodes().get(port, set()))


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def environment_of(pid):
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(item.split(b"=", 1) for item in raw.split(b"\0") if b"=" in item)


def every_pid():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def fetch(port, path="/", deadline=PATIENCE):
    """The body of http://localhost:PORT/PATH, whichever of ::1 and 127.0.0.1 answers."""

    def attempt():
        connection = http.client.HTTPConnection("localhost", port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode() or None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    return wait_until(attempt, f"an answer on http://localhost:{port}{path}", deadline)


# ---------------------------------------------------------------------------------------------------------------------
# Processes


class Process:
    """A command in a session of its own, its outputs collected line by line."""

    def __init__(self, command, *, cwd, env):
        self.command = [str(word) for word in command]
        self.cwd = Path(cwd)
        self._changed = threading.Condition()
        self._text = {"stdout": "", "stderr": ""}
        self._popen = subprocess.Popen(
            self.command, cwd=cwd, env=env, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._readers = [threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._text]
        for reader in self._readers:
            reader.start()

    def _read(self, name):
        pipe = getattr(self._popen, name)
        while True:
            chunk = os.read(pipe.fileno(), 65536)
            with self._changed:
                self._text[name] += chunk.decode(errors="replace")
                self._changed.notify_all()
            if not chunk:
                return

    @property
    def pid(self):
        return self._popen.pid

    @property
    def stdout(self):
        return self._text["stdout"]

    @property
    def stderr(self):
        return self._text["stderr"]

    def running(self):
        return self._popen.poll() is None

    def wait_for(self, pattern, stream=None, deadline=PATIENCE, count=1):
        """The count-th match of a regular expression in what was written so far or will be."""

        def found():
            texts = [self.stdout, self.stderr] if stream is None else [self._text[stream]]
            matches = [match for text in texts for match in re.finditer(pattern, text, re.MULTILINE)]
            return matches[count - 1] if len(matches) >= count else None

        end = time.monotonic() + deadline
        with self._changed:
            while True:
                match = found()
                if match:
                    return match
                left = end - time.monotonic()
                ended = self._popen.poll() is not None and not any(reader.is_alive() for reader in self._readers)
                if left <= 0 or ended:
                    raise AssertionError(
                        f"{' '.join(self.command)}: {'ended' if ended else 'waited in vain'} without {pattern!r}\n"
                        f"status {self._popen.poll()}\nstdout: {self.stdout}\nstderr: {self.stderr}")
                self._changed.wait(min(left, 0.1))

    def say(self, text):
        self._popen.stdin.write(text.encode())
        self._popen.stdin.flush()

    def close_stdin(self):
        self._popen.stdin.close()

    def wait(self, deadline=PATIENCE):
        """The exit status, after everything that was written has been read."""
        status = self._popen.wait(deadline)
        for reader in self._readers:
            reader.join(1)
        return status

    def kill(self):
        """SIGKILL for the command and all its descendants that stayed in its process group."""
        # Once it has been waited for, its number may be that of somebody else's process. While there are members of its group the
        # kernel gives it to nobody.
        if self._popen.returncode is None or not os.path.exists(f"/proc/{self.pid}"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def dispose(self):
        self.kill()
        for reader in self._readers:
            reader.join(2)
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            with contextlib.suppress(OSError):
                pipe.close()


# ---------------------------------------------------------------------------------------------------------------------
# The house


class House:
    def __init__(self, directory, prefix, runtime=None):
        self.directory = Path(directory)
        self.prefix = Path(prefix)
        self.runtime = Path(runtime) if runtime else self.directory / "run"
        self.state = self.directory / "state"
        self.config = self.directory / "config"
        self.home = self.directory / "home"
        self._mounts = []
        self._processes = []
        for path in (self.runtime, self.state, self.config, self.home):
            path.mkdir(mode=0o700, exist_ok=path == self.runtime)
        self.env = {
            "HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.runtime), "XDG_STATE_HOME": str(self.state),
            "XDG_CONFIG_HOME": str(self.config), "PATH": search_path(self.prefix), "LANG": "C.UTF-8", "TERM": "dumb",
            "USER": os.environ.get("USER", "tester"), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
            "npm_config_update_notifier": "false", "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "T", "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "T", "GIT_COMMITTER_EMAIL": "t@example.org",
        }

    @property
    def registry(self):
        return self.state / "portwrap"

    @property
    def socket(self):
        return self.runtime / "portwrap" / "agent.sock"

    @property
    def log(self):
        path = self.registry / "agent.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    # -- projects

    def project(self, name, app=None, *, files=None):
        """A directory with a copy of tests/servers/apps/APP and, where that has a package.json, the node modules."""
        root = self.home / name
        root.mkdir(parents=True)
        if app:
            shutil.copytree(SERVERS / "apps" / app, root, dirs_exist_ok=True)
            self.furnish(root)
        for path, text in (files or {}).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (root / "content.txt").write_text(f"content of {name}\n")
        return root

    @staticmethod
    def furnish(root):
        """node_modules as a directory of links: what servers write into it (vite's cache) stays in the project."""
        if (root / "package.json").exists():
            modules = root / "node_modules"
            modules.mkdir()
            for entry in NODE_MODULES.glob("[!.]*"):
                (modules / entry.name).symlink_to(entry)
            for entry in NODE_MODULES.glob(".bin"):
                (modules / entry.name).symlink_to(entry)

    def worktrees(self, name, app=None, *, files=None):
        """A repository and a linked worktree of it, each with content of its own."""
        main = self.project(name, app, files=files)
        (main / ".gitignore").write_text("node_modules\ncontent.txt\n")
        linked = self.home / f"{name}-fix"
        self.git(main, "init", "-q", "-b", "main")
        self.git(main, "add", "-A")
        self.git(main, "commit", "-q", "-m", "An app")
        self.git(main, "worktree", "add", "-q", "-b", "fix", str(linked))
        self.furnish(linked)
        (linked / "content.txt").write_text(f"content of {linked.name}\n")
        return main, linked

    def git(self, cwd, *words):
        subprocess.run(["git", *words], cwd=cwd, env=self.env, check=True, capture_output=True)

    # -- processes

    def start(self, *command, cwd, env=None):
        process = Process(command, cwd=cwd, env={**self.env, **(env or {})})
        self._processes.append(process)
        return process

    def wrap(self, *command, cwd, env=None):
        """`portwrap COMMAND...`, running."""
        return self.start("portwrap", *command, cwd=cwd, env=env)

    def serve_unwrapped(self, port, cwd):
        """A web server that portwrap did not start."""
        server = self.start("python3", "-m", "http.server", str(port), "--bind", "127.0.0.1", cwd=cwd)
        server.wait_for("^Serving HTTP")
        return server

    def serve_silence(self, port, cwd):
        """A server that portwrap did not start, and that accepts connections and never answers."""
        program = f"import socket; server = socket.create_server(('127.0.0.1', {port})); print('bound', flush=True); input()"
        server = self.start("python3", "-c", program, cwd=cwd)
        server.wait_for("bound")
        return server

    def run(self, *command, cwd=None, env=None, stdin=b"", deadline=PATIENCE):
        """A command to its end; stdout and stderr as text."""
        done = subprocess.run(
            [str(word) for word in command], cwd=cwd or self.home, env={**self.env, **(env or {})}, input=stdin,
            capture_output=True, timeout=deadline, start_new_session=True)
        done.stdout, done.stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return done

    def portctl(self, *words, cwd=None, env=None):
        return self.run("portctl", *words, cwd=cwd, env=env)

    def ask(self, *words, cwd=None, status=0):
        """The object that `portctl ... --json` prints, its exit status checked."""
        done = self.portctl(*words, "--json", cwd=cwd)
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        reply = json.loads(done.stdout)
        assert reply["schema"] == 1, reply
        assert reply["ok"] is (status == 0 or "error" not in reply), reply
        return reply

    def refusal(self, *words, cwd=None, status):
        """The `error` object of a command that is refused."""
        reply = self.ask(*words, cwd=cwd, status=status)
        assert reply["ok"] is False, reply
        return reply["error"]

    def leases(self, cwd=None):
        """The live leases: of the project of cwd, or of all."""
        return self.ask("list", *([] if cwd else ["--all"]), cwd=cwd)["leases"]

    def port(self, cwd, *words):
        done = self.portctl("port", *words, cwd=cwd)
        assert done.returncode == 0, (done.stdout, done.stderr)
        assert re.fullmatch(r"\d+\n", done.stdout), done.stdout
        return int(done.stdout)

    # -- the agent

    def agent_pids(self):
        """Agents that live on this house's runtime directory."""
        here = str(self.runtime).encode()
        pids = []
        for pid in every_pid():
            with contextlib.suppress(OSError):
                if (Path(f"/proc/{pid}/comm").read_text().strip() == "portwrap-agent" and is_alive(pid)
                        and environment_of(pid).get(b"XDG_RUNTIME_DIR") == here):
                    pids.append(pid)
        return pids

    def agent_pid(self):
        return self.ask("agent", "status")["agent"]["pid"]

    def kill_serving_agent(self):
        """Kills the agent that answers on the socket, found without a look through /proc: for kills in the thick of it."""
        try:
            with connect_to_agent(self) as connection:
                pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            os.kill(pid, signal.SIGKILL)
            return True
        except OSError:
            return False

    def start_agent(self):
        done = self.portctl("agent", "start")
        assert done.returncode == 0, (done.stdout, done.stderr)
        return self.agent_pid()

    def stop_agent(self):
        done = self.portctl("agent", "stop")
        assert done.returncode == 0, (done.stdout, done.stderr)
        wait_until(lambda: not self.agent_pids(), "the agent ends")

    def kill_agent(self):
        """Kills the agent that runs now; clients may start another one at once."""
        for pid in self.agent_pids():
            pidfd = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
            assert select.select([pidfd], [], [], PATIENCE)[0], "the killed agent is gone"
            os.close(pidfd)

    # -- a small file system of its own, for full and read-only disks

    def mount_registry(self, size="1m"):
        """A tmpfs for the registry; False where this process may not mount one."""
        return self.mount(self.registry, f"size={size}")

    def mount(self, directory, options):
        directory.mkdir(mode=0o700, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"{options},mode=0700", "tmpfs", str(directory)], capture_output=True)
        if done.returncode == 0:
            self._mounts.append(directory)
        return done.returncode == 0

    def make_registry_newer(self):
        """As a later version would have written it, with a checksum that is right."""
        snapshot = self.registry / "ports.json"
        text = snapshot.read_text()
        body = re.sub(r'("schema_version": ?)1\b', r"\g<1>99", text[: text.rindex('"crc"')])
        snapshot.write_text(f'{body}"crc": "{zlib.crc32(body.encode()):08x}"\n}}\n')

    def remount_registry(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.registry)], check=True, capture_output=True)

    # -- the end

    def end_processes(self):
        """SIGKILL for whatever was started here."""
        for process in self._processes:
            process.dispose()
        self._processes.clear()

    def close(self):
        self.end_processes()
        # Daemons and orphans: whoever still carries this house's runtime directory was started by it.
        here = str(self.runtime).encode()

        def left():
            return [pid for pid in every_pid()
                    if pid != os.getpid() and is_alive(pid) and environment_of(pid).get(b"XDG_RUNTIME_DIR") == here]

        def none_left():
            pids = left()
            for pid in pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGKILL)
            return not pids

        wait_until(none_left, "all processes of the house end")
        for mount in self._mounts:
            subprocess.run(["umount", "-l", str(mount)], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)


def search_path(prefix):
    """The installed programs, then the system's; node may live elsewhere. No other python than Debian's."""
    directories = [f"{prefix}/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
    node = shutil.which("node")
    if node:
        directories.append(str(Path(node).parent))
    return ":".join(directories)


def compile_c(source, target):
    subprocess.run(["cc", "-O1", "-Wall", "-o", str(target), str(source)], check=True)
    return target


# ---------------------------------------------------------------------------------------------------------------------
# Sentences that several tests say


def assert_port_is_right(port, asked, range_name, was_taken):
    """The port that was asked for if that was free, else one of the right range. A stranger outside the tests may hold
    a popular port, or take it meanwhile: then moving is right."""
    if port == asked:
        return
    low, high = RANGES[range_name]
    assert low <= port <= high, f"port {port} (asked for {asked}) is not in range {range_name}"
    assert was_taken or is_listening(asked), f"{asked} was free, but {port} was given"


def assert_active(lease, *, port, asked, root):
    """A lease as it must look while its server listens."""
    assert lease["state"] == "active", lease
    assert lease["port"] == port, lease
    assert lease["requested_port"] == asked, lease
    assert lease["protocol"] == "tcp", lease
    assert lease["project"]["root"] == str(root), lease
    assert lease["holder"] is not None, lease
    assert really_listens(lease["holder"]["pid"], port), (lease, listening_inodes().get(port))


def resident_kb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def peak_kb(pid):
    """The most memory that a process has had resident."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def connect_to_agent(house):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    connection.connect(str(house.socket))
    return connection


class Rpc:
    """One raw connection to the agent."""

    def __init__(self, house):
        self.connection = connect_to_agent(house)
        self._buffer = b""

    def send(self, data):
        self.connection.sendall(data)

    def line(self):
        """The next reply, or None when the agent has closed the connection."""
        while b"\n" not in self._buffer:
            try:
                chunk = self.connection.recv(65536)
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def call(self, method, params, request_id=1):
        self.send(json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode() + b"\n")
        return self.line()

    def close(self):
        self.connection.close()


