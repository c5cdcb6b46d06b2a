"""Drives the real libportwrap.so against a scripted agent on a Unix socket.

PORTWRAP_SHIM names the library (default: build/lib/portwrap/libportwrap.so). Needs gcc; musl-gcc is used where it is.
Run: /usr/bin/python3 -m pytest tests/integration/shim
"""
import contextlib
import errno
import json
import os
import random
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SHIM = pathlib.Path(os.environ.get("PORTWRAP_SHIM", HERE.parents[2] / "build/lib/portwrap/libportwrap.so")).resolve()
COMPILERS = [name for name in ("gcc", "musl-gcc") if shutil.which(name)]


class Agent:
    """Answers each request with what `script(request)` says: a dict is a result, bytes go out as they are, None hangs."""

    def __init__(self, directory, script):
        self.requests = []
        self.connections = 0
        self.peers = []
        self.over = threading.Condition()
        self.closed = 0
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(directory / "agent.sock"))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self.peers.append(pid)
        with connection, contextlib.suppress(OSError):
            for line in connection.makefile("rb"):
                request = json.loads(line)
                with self.over:
                    self.requests.append(request)
                    self.over.notify_all()
                if "id" not in request:
                    continue
                answer = self._script(request)
                if answer is None:
                    connection.recv(1)
                    break
                for piece in answer if isinstance(answer, list) else [answer]:
                    if isinstance(piece, dict):
                        piece = json.dumps({"id": request["id"], "jsonrpc": "2.0", "result": piece}).encode() + b"\n"
                    if piece == b"":
                        return
                    connection.sendall(piece)
        with self.over:
            self.closed += 1
            self.over.notify_all()

    def wait_for(self, count, method=None):
        """The requests, when there are that many (of that method)."""
        with self.over:
            assert self.over.wait_for(lambda: len(self.of(method)) >= count, timeout=10), self.requests
        return self.of(method)

    def of(self, method):
        return [r for r in self.requests if method is None or r["method"] == method]

    def params(self, method):
        return [r["params"] for r in self.of(method)]

    def close(self):
        # The thread first: it would accept on whatever gets the descriptor's number next.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()


@pytest.fixture(scope="session", params=COMPILERS)
def driver(request, tmp_path_factory):
    program = tmp_path_factory.mktemp("driver") / request.param
    subprocess.run([request.param, "-O1", "-Wall", "-o", program, HERE / "driver.c", "-pthread"], check=True)
    return program


@pytest.fixture
def runtime(tmp_path_factory):
    return tmp_path_factory.mktemp("r")


@pytest.fixture
def agents(runtime):
    started = []

    def start(script, directory=runtime):
        started.append(Agent(directory, script))
        return started[-1]

    yield start
    for agent in started:
        agent.close()


@pytest.fixture
def run(driver, runtime):
    def run(*steps, env=None, **options):
        environment = {"PATH": os.environ["PATH"], "LD_PRELOAD": str(SHIM), "PORTWRAP_RUNTIME": str(runtime),
                       "PORTWRAP_SESSION": "4242.1234567", **(env or {})}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        done = subprocess.run([driver, *steps], env={k: v for k, v in environment.items() if v is not None}, text=True,
                              timeout=30, **options)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done
    return run


def lines(done):
    return done.stdout.splitlines()


@contextlib.contextmanager
def taken(family=socket.AF_INET6):
    """A port that somebody listens on, on every address."""
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(("", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


def free(count=1):
    """Ports that nobody has, outside of the kernel's ephemeral range, from which other programs of the machine take theirs."""
    ports = []
    while len(ports) < count:
        port = random.randrange(20000, 30000)
        with socket.socket(socket.AF_INET6) as one, contextlib.suppress(OSError):
            one.bind(("", port))
            if port not in ports:
                ports.append(port)
    return ports if count > 1 else ports[0]


def grants(port, lease=17, notice=""):
    def script(request):
        return {"notice": notice} if request["method"] == "shim.listening" else {"lease": lease, "port": port}
    return script


# What is asked and what is bound.

@pytest.mark.parametrize("kind,host,family,scope", [
    ("tcp4", "0.0.0.0", 2, 0), ("tcp4", "127.0.0.1", 2, 1), ("tcp4", "127.8.7.6", 2, 1), ("tcp6", "::", 10, 0),
    ("tcp6", "::1", 10, 1), ("tcp6", "::ffff:127.0.0.1", 10, 1)])
def test_the_socket_gets_the_port_that_the_agent_says(run, agents, kind, host, family, scope):
    port = free()
    agent = agents(grants(port))
    done = run(kind, f"bind={host}/4242", "name", "listen")
    assert lines(done) == ["bind 0 0", f"name {host} {port}", "listen 0 0"]
    assert done.stderr == ""
    agent.wait_for(1, "shim.bound")
    asked, = agent.params("shim.bind")
    assert asked["cookie"] > 0 and asked["netns"] > 0
    assert {k: v for k, v in asked.items() if k not in ("cookie", "netns")} == {
        "port": 4242, "family": family, "scope": scope, "protocol": 6, "reuseport": 0, "session": [4242, 1234567]}
    assert agent.params("shim.bound") == [{"lease": 17, "port": port, "cookie": asked["cookie"]}]
    listening, = agent.params("shim.listening")
    assert (listening["port"], listening["errno"], listening["cookie"]) == (port, 0, asked["cookie"])
    assert (listening["family"], listening["scope"], listening["session"]) == (family, scope, [4242, 1234567])
    assert all(set(r) == {"jsonrpc", "method", "params"} | ({"id"} if r["method"] != "shim.bound" else set())
               for r in agent.requests)


def test_the_second_address_family_gets_the_same_port(run, agents):
    port = free()
    agents(grants(port))
    done = run("tcp6", "v6only", "bind=::/4242", "tcp4", "bind=0.0.0.0/4242", "name")
    assert lines(done) == ["bind 0 0", "bind 0 0", f"name 0.0.0.0 {port}"]


def test_reuseport_and_mptcp_are_reported(run, agents):
    agent = agents(grants(free()))
    run("tcp4", "reuseport", "bind=127.0.0.1/4242")
    assert agent.params("shim.bind")[0]["reuseport"] == 1
    if lines(run("mptcp"))[0] == "mptcp 1":
        run("mptcp", "bind=127.0.0.1/4242")
        assert agent.params("shim.bind")[1]["protocol"] == 262


def test_port_0_is_asked_for_unless_the_socket_wants_none_yet(run, agents):
    port = free()
    agent = agents(grants(port))
    assert lines(run("tcp4", "bind=127.0.0.1/0", "name"))[1] == f"name 127.0.0.1 {port}"
    assert agent.params("shim.bind")[0]["port"] == 0
    run("tcp4", "no_port", "bind=127.0.0.1/0")
    run("tcp6", "no_port", "bind=::1/0")
    assert agent.connections == 1


def test_the_agent_may_leave_port_0_to_the_kernel(run, agents):
    agents(grants(0, lease=0))
    done = run("tcp4", "bind=127.0.0.1/0", "name")
    assert lines(done)[0] == "bind 0 0" and int(lines(done)[1].split()[2]) > 0


def test_other_sockets_never_reach_the_agent(run, agents, tmp_path):
    agent = agents(grants(1))
    port = free()
    done = run("udp4", "bind=127.0.0.1/0", "udp4", f"bind=224.0.0.251/{port}", "name", f"unix={tmp_path}/s", "listen")
    assert lines(done) == ["bind 0 0", "bind 0 0", f"name 224.0.0.251 {port}", "bind 0 0", "listen 0 0"]
    assert agent.connections == 0


def test_a_udp_socket_gets_the_port_that_the_agent_says_and_is_a_server_at_once(run, agents):
    port = free()
    agent = agents(grants(port, notice="moved"))
    done = run("udp4", "bind=127.0.0.1/4242", "name")
    assert lines(done) == ["bind 0 0", f"name 127.0.0.1 {port}"]
    assert done.stderr == "moved\n"
    asked, = agent.params("shim.bind")
    told, = agent.params("shim.listening")
    assert (asked["protocol"], told["protocol"], told["port"], told["errno"]) == (17, 17, port, 0)
    assert told["cookie"] == asked["cookie"] == agent.wait_for(1, "shim.bound")[0]["params"]["cookie"]


def test_an_unmanaged_udp_socket_is_not_told_of(run, agents):
    port = free()
    agent = agents(grants(port, lease=0))
    assert lines(run("udp4", f"bind=127.0.0.1/{port}"))[0] == "bind 0 0"
    assert {r["method"] for r in agent.requests} == {"shim.bind"}


def test_an_unmanaged_answer_is_bound_and_not_confirmed(run, agents):
    port = free()
    agent = agents(grants(port, lease=0))
    assert lines(run("tcp4", "bind=127.0.0.1/4242", "name"))[1] == f"name 127.0.0.1 {port}"
    with taken() as busy:
        agent._script = grants(busy, lease=0)
        assert lines(run("tcp4", "bind=127.0.0.1/4242")) == [f"bind -1 {errno.EADDRINUSE}"]
    assert {r["method"] for r in agent.requests} == {"shim.bind"}


# Ports that turn out to be taken.

def test_a_taken_port_is_reported_and_the_next_answer_bound(run, agents):
    port = free()
    with taken() as busy:
        agent = agents(lambda r: {"lease": 18, "port": port} if r["method"] == "shim.failed" else {"lease": 17, "port": busy})
        done = run("tcp4", "errno=7", "bind=127.0.0.1/4242", "name")
    assert lines(done) == ["bind 0 7", f"name 127.0.0.1 {port}"]
    agent.wait_for(1, "shim.bound")
    failed, = agent.of("shim.failed")
    assert failed["id"] == 2 and failed["params"] == {"lease": 17, "port": busy, "errno": errno.EADDRINUSE}
    assert agent.params("shim.bound")[0]["lease"] == 18
    assert agent.connections == 1


def test_the_same_port_again_is_final(run, agents):
    with taken() as busy:
        agent = agents(grants(busy))
        assert lines(run("tcp4", "bind=127.0.0.1/4242")) == [f"bind -1 {errno.EADDRINUSE}"]
    assert len(agent.of("shim.failed")) == 1 and not agent.of("shim.bound")


def test_an_answer_without_a_lease_is_final_and_the_kernels_word_counts(run, agents):
    port = free()
    with taken() as busy:
        agent = agents(lambda r: {"lease": 0, "port": port} if r["method"] == "shim.failed" else {"lease": 17, "port": busy})
        assert lines(run("tcp4", "bind=127.0.0.1/4242", "name")) == ["bind 0 0", f"name 127.0.0.1 {port}"]
    assert not agent.of("shim.bound")


def test_it_gives_up_after_16_failures(run, agents):
    with taken() as one, taken() as two:
        agent = agents(lambda r: {"lease": 17, "port": two if r["id"] % 2 else one})
        assert lines(run("tcp4", "bind=127.0.0.1/4242")) == [f"bind -1 {errno.EADDRINUSE}"]
    assert [r["id"] for r in agent.of("shim.failed")] == list(range(2, 18))


def test_an_agent_that_goes_during_the_retries_leaves_the_programs_own_port(run, agents):
    port = free()
    with taken() as busy:
        agents(lambda r: b"" if r["method"] == "shim.failed" else {"lease": 17, "port": busy})
        assert lines(run("tcp4", f"bind=127.0.0.1/{port}", "name")) == ["bind 0 0", f"name 127.0.0.1 {port}"]


def test_other_errors_of_the_kernel_are_returned_unreported(run, agents):
    agent = agents(grants(free()))
    assert lines(run("tcp4", "bind=192.0.2.1/4242")) == [f"bind -1 {errno.EADDRNOTAVAIL}"]
    assert {r["method"] for r in agent.requests} == {"shim.bind"}


def test_a_listen_that_finds_the_port_taken_is_reported_and_returned(driver, runtime, agents):
    # With SO_REUSEADDR two sockets can bind one port; whoever listens second fails.
    port = free()
    agent = agents(grants(port))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        program = subprocess.Popen([driver, "tcp4", "reuseaddr", "bind=127.0.0.1/4242", "wait", "listen"], text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env={"LD_PRELOAD": str(SHIM), "PORTWRAP_RUNTIME": str(runtime)})
        assert program.stdout.readline() == "bind 0 0\n"
        other.listen(1)
        said, _ = program.communicate("x", timeout=10)
    assert said == f"listen -1 {errno.EADDRINUSE}\n"
    assert [(p["port"], p["errno"]) for p in agent.params("shim.listening")] == [(port, errno.EADDRINUSE)]


# errno and the caller's memory.

def test_errno_is_as_before_on_success(run, agents):
    agents(grants(free()))
    done = run("tcp4", f"errno={errno.EADDRINUSE}", "bind=127.0.0.1/4242", "listen")
    assert lines(done) == [f"bind 0 {errno.EADDRINUSE}", f"listen 0 {errno.EADDRINUSE}"]


def test_a_bad_pointer_gives_efault(run, agents):
    agent = agents(grants(free()))
    done = run("tcp4", "bind_pointer=0", "bind_pointer=1", "bind_pointer=-16", "bind_edge=17", "bind_edge=28")
    assert lines(done) == [f"bind -1 {errno.EFAULT}"] * 5
    assert agent.connections == 0


def test_an_address_that_ends_with_its_page_is_read(run, agents):
    port = free()
    agents(grants(port))
    assert lines(run("tcp4", "bind_edge=16", "name")) == ["bind 0 0", f"name 0.0.0.0 {port}"]


@pytest.mark.parametrize("size,answer", [("0", errno.EINVAL), ("15", errno.EINVAL), ("129", errno.EINVAL),
                                         ("0xffffffff", errno.EINVAL), ("16", 0), ("128", 0)])
def test_sizes_of_addresses_are_judged_as_by_the_kernel(run, agents, size, answer):
    agents(grants(free()))
    assert lines(run("tcp4", f"bind_size={size}")) == [f"bind {-1 if answer else 0} {answer}"]


# The agent is not well.

def test_without_an_agent_all_is_as_without_portwrap(run, runtime):
    port = free()
    expected = ["bind 0 0", f"name 127.0.0.1 {port}", "listen 0 0"]
    assert lines(run("tcp4", f"bind=127.0.0.1/{port}", "name", "listen")) == expected
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(runtime / "agent.sock"))
    assert lines(run("tcp4", f"bind=127.0.0.1/{port}", "name", "listen")) == expected
    with taken() as busy:
        assert lines(run("tcp4", f"bind=127.0.0.1/{busy}")) == [f"bind -1 {errno.EADDRINUSE}"]


def test_a_stopped_agent_is_not_waited_for(run, runtime):
    port = free()
    code = ("import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(8); print(flush=True);"
            "sys.stdin.read()")
    agent = subprocess.Popen([sys.executable, "-c", code, runtime / "agent.sock"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    try:
        agent.stdout.readline()
        agent.send_signal(signal.SIGSTOP)
        os.waitpid(agent.pid, os.WUNTRACED)
        began = time.monotonic()
        done = run("tcp4", f"bind=127.0.0.1/{port}", "name", "listen")
        assert time.monotonic() - began < 0.5
        assert lines(done) == ["bind 0 0", f"name 127.0.0.1 {port}", "listen 0 0"]
    finally:
        agent.kill()
        agent.communicate()


def test_a_slow_agent_is_waited_for_though_signals_interrupt(run, agents):
    port = free()

    def script(request):
        time.sleep(0.7)  # past the first looks at the agent's state: nothing to await but time
        return {"lease": 17, "port": port}
    agents(script)
    assert lines(run("alarms", "tcp4", "bind=127.0.0.1/4242", "name"))[1] == f"name 127.0.0.1 {port}"


def test_a_hanging_agent_is_waited_for_5_seconds_once(run, agents):
    port = free()
    agent = agents(lambda request: None)
    began = time.monotonic()
    done = run("alarms", "tcp4", f"bind=127.0.0.1/{port}", "name", "listen")
    assert 4.9 <= time.monotonic() - began < 7
    assert lines(done) == ["bind 0 0", f"name 127.0.0.1 {port}", "listen 0 0"]
    assert agent.connections == 1


def test_an_answer_in_single_bytes_is_read(run, agents):
    port = free()
    answer = json.dumps({"id": 1, "jsonrpc": "2.0", "result": {"lease": 17, "port": port}}).encode() + b"\n"
    agents(lambda request: [answer[i:i + 1] for i in range(len(answer))])
    assert lines(run("tcp4", "bind=127.0.0.1/4242", "name"))[1] == f"name 127.0.0.1 {port}"


GARBAGE = [
    b"\n", b"garbage\n", b"", b"{}\n", b"\0" * 5000, b"x" * 5000, b"[" * 4095 + b"\n",
    b'{"jsonrpc":"2.0","id":1,"result":{}}\n',
    b'{"jsonrpc":"2.0","id":2,"result":{"lease":17,"port":9}}\n',
    b'{"jsonrpc":"2.0","id":1,"result":{"lease":17,"port":70000}}\n',
    b'{"jsonrpc":"2.0","id":1,"result":{"lease":17,"port":-1}}\n',
    b'{"jsonrpc":"2.0","id":1,"result":{"lease":17,"port":"9"}}\n',
    b'{"jsonrpc":"2.0","id":1,"result":{"lease":17,"port":0}}\n',
    b'{"jsonrpc":"2.0","id":1,"result":{"lease":99999999999999999999,"port":9}}\n',
    b'{"jsonrpc":"2.0","id":1,"result":{"lease":17,"port":9}}\nmore\n',
]


@pytest.mark.parametrize("reply", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_failed_open_on_and_remembered(run, agents, reply):
    port, second = free(2)
    agent = agents(lambda request: reply)
    done = run("tcp4", f"bind=127.0.0.1/{port}", "name", "listen", "tcp4", f"bind=127.0.0.1/{second}", "name")
    assert lines(done) == ["bind 0 0", f"name 127.0.0.1 {port}", "listen 0 0", "bind 0 0", f"name 127.0.0.1 {second}"]
    assert agent.connections == 1


def test_a_refusal_is_failed_open_on_but_the_next_request_is_made(run, agents):
    port = free()
    agent = agents(lambda request: b'{"error":{"code":-32000,"message":"no"},"id":1,"jsonrpc":"2.0"}\n')
    assert lines(run("tcp4", f"bind=127.0.0.1/{port}", "name", "listen"))[1] == f"name 127.0.0.1 {port}"
    assert len(agent.of("shim.bind")) == len(agent.of("shim.listening")) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_agent_of_another_user_is_not_believed(run, agents, runtime):
    port = free()
    agent = agents(grants(1))
    for directory in (runtime, *runtime.parents):
        if directory.owner() == "root" and "pytest" in str(directory):
            directory.chmod(0o755)
    (runtime / "agent.sock").chmod(0o666)
    assert lines(run("uid=65534", "tcp4", f"bind=127.0.0.1/{port}", "name"))[1] == f"name 127.0.0.1 {port}"
    assert agent.requests == []


# Notices.

def test_the_notice_is_one_line_on_stderr_and_nothing_on_stdout(run, agents, tmp_path):
    agent = agents(grants(free(), notice='portwrap: "shop\\web" (asked for 4242)'))
    with open(tmp_path / "stderr", "w+") as stderr:
        done = run("tcp4", "bind=127.0.0.1/4242", "listen", stderr=stderr)
        status = os.fstat(stderr.fileno())
    assert (tmp_path / "stderr").read_text() == 'portwrap: "shop\\web" (asked for 4242)\n'
    assert lines(done) == ["bind 0 0", "listen 0 0"]
    assert agent.params("shim.listening")[0]["stderr"] == [status.st_dev, status.st_ino]


def test_listening_again_tells_again(run, agents):
    agent = agents(grants(free()))
    assert lines(run("tcp4", "bind=127.0.0.1/4242", "listen", "listen"))[1:] == ["listen 0 0"] * 2
    assert len(agent.of("shim.listening")) == 2


def test_a_notice_for_a_reader_that_has_gone_kills_nobody(run, agents):
    agents(grants(free(), notice="notice"))
    read, write = os.pipe()
    os.close(read)
    assert lines(run("tcp4", "bind=127.0.0.1/4242", "listen", stderr=write))[1] == "listen 0 0"
    os.close(write)


def test_a_notice_beyond_the_file_size_limit_kills_nobody(run, agents, tmp_path):
    agents(grants(free(), notice="notice"))
    with open(tmp_path / "stderr", "w") as stderr:
        assert lines(run("file_limit", "tcp4", "bind=127.0.0.1/4242", "listen", stderr=stderr))[1] == "listen 0 0"
    assert (tmp_path / "stderr").read_text() == ""


def test_a_notice_is_dropped_where_it_would_block(run, agents):
    agents(grants(free(), notice="notice"))
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    assert lines(run("tcp4", "bind=127.0.0.1/4242", "listen", stderr=write))[1] == "listen 0 0"
    os.close(write)
    os.close(read)


@pytest.mark.parametrize("notice", [b"a\\nb", b"a\\u001b[31m", b"a\x1b[31m", b"a\xc2\x9b31m"])
def test_a_notice_with_control_characters_is_not_shown(run, agents, notice):
    reply = b'{"jsonrpc":"2.0","id":1,"result":{"notice":"%s"}}\n' % notice
    agents(lambda request: reply if request["method"] == "shim.listening" else {"lease": 0, "port": free()})
    assert run("tcp4", "bind=127.0.0.1/4242", "listen").stderr == ""


# Descriptors and processes.

def test_no_descriptor_stays_open(run, agents):
    agents(grants(free(), notice="notice"))
    done = run("tcp4", "fds", "bind=127.0.0.1/4242", "listen", "fds")
    assert lines(done)[0] == lines(done)[3]


def test_standard_descriptors_that_are_closed_stay_closed(run, agents):
    port = free()
    during = []

    def script(request):
        during.append({int(name) for name in os.listdir(f"/proc/{agent.peers[-1]}/fd")})
        return grants(port, notice="notice")(request)
    agent = agents(script)
    done = run("tcp4", "close_standard", "bind=127.0.0.1/4242", "listen", "name", "fds")
    assert lines(done)[2] == f"name 127.0.0.1 {port}"
    assert not {"0", "1", "2"} & set(lines(done)[3].split()[1:])
    assert len(during) == 2 and not any({0, 1, 2} & seen for seen in during)
    assert agent.params("shim.listening")[0]["stderr"] == [0, 0]


def test_a_program_without_descriptors_left_binds_what_it_asked_for(run, agents):
    port = free()
    agent = agents(grants(1))
    done = run("tcp4", "limit", f"bind=127.0.0.1/{port}", "listen", "name")
    assert lines(done) == ["bind 0 0", "listen 0 0", f"name 127.0.0.1 {port}"]
    assert agent.connections == 0


def test_a_fork_during_a_request_confuses_nobody(driver, runtime, agents):
    first, second = free(2)
    child_done = threading.Event()

    def script(request):
        if request["params"]["port"] == 4242:
            assert child_done.wait(10)
            return {"lease": 17, "port": first}
        return {"lease": 18, "port": second}
    agent = agents(script)
    program = subprocess.Popen([driver, "tcp4", "fork_during=127.0.0.1/4242", "name"], text=True, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE,
                               env={"LD_PRELOAD": str(SHIM), "PORTWRAP_RUNTIME": str(runtime)})
    agent.wait_for(1, "shim.bind")
    program.stdin.write("x")
    program.stdin.flush()
    said = [program.stdout.readline(), program.stdout.readline()]
    child_done.set()
    rest, _ = program.communicate(timeout=10)
    assert said == ["child_bind 0 0\n", f"name 127.0.0.1 {second}\n"]
    assert rest.splitlines() == ["bind 0 0", f"name 127.0.0.1 {first}"]
    assert len(set(agent.peers)) == 2


def test_a_bind_in_a_vfork_child_works(run, agents):
    port = free()
    agents(grants(port))
    assert lines(run("tcp4", "vfork_bind=4242", "name")) == ["vfork_bind 0", f"name 127.0.0.1 {port}"]


# The environment.

def test_a_scrubbed_environment_is_found_in_an_ancestor(driver, runtime, agents):
    port = free()
    agent = agents(grants(port))
    script = 'env -i sh -c \'LD_PRELOAD="$1" "$2" tcp4 bind=127.0.0.1/4242 name; true\' sh "$1" "$2"; true'
    done = subprocess.run(["sh", "-c", script, "sh", SHIM, driver], stdout=subprocess.PIPE, text=True, timeout=10,
                          env={"PATH": os.environ["PATH"], "PORTWRAP_RUNTIME": str(runtime),
                               "PORTWRAP_SESSION": "77.88", "LONG": "x" * 9000})
    assert done.stdout.splitlines() == ["bind 0 0", f"name 127.0.0.1 {port}"]
    assert agent.params("shim.bind")[0]["session"] == [77, 88]


def test_the_default_runtime_directory_is_the_users(run, agents, tmp_path):
    port = free()
    (tmp_path / "portwrap").mkdir()
    agent = agents(grants(port), tmp_path / "portwrap")
    done = run("tcp4", "bind=127.0.0.1/4242", "name",
               env={"PORTWRAP_RUNTIME": None, "PORTWRAP_SESSION": None, "XDG_RUNTIME_DIR": str(tmp_path)})
    assert lines(done)[1] == f"name 127.0.0.1 {port}"
    assert agent.params("shim.bind")[0]["session"] == [0, 0]


@pytest.mark.parametrize("session", ["", "1", "1.", ".2", "1.2.3", "-1.2", "1.99999999999999999999", "a.b"])
def test_a_broken_session_counts_as_none(run, agents, session):
    agent = agents(grants(free()))
    run("tcp4", "bind=127.0.0.1/4242", env={"PORTWRAP_SESSION": session})
    assert agent.params("shim.bind")[0]["session"] == [0, 0]


def test_it_can_be_turned_off(run, agents):
    port = free()
    agent = agents(grants(1))
    run("tcp4", f"bind=127.0.0.1/{port}", "listen", env={"PORTWRAP_DISABLE": "1"})
    assert agent.connections == 0


def test_a_runtime_directory_that_fits_into_no_socket_address_is_none(run):
    port = free()
    done = run("tcp4", f"bind=127.0.0.1/{port}", "name", env={"PORTWRAP_RUNTIME": "/" + "x" * 200})
    assert lines(done)[1] == f"name 127.0.0.1 {port}"


# The library itself.

def test_only_the_intercepted_calls_are_exported_and_all_imports_are_weak_and_unversioned():
    symbols = subprocess.run(["nm", "-D", SHIM], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    fields = [line.split() for line in symbols]
    assert {f[2] for f in fields if len(f) == 3} == {"bind", "listen", "connect", "getsockname", "sendto", "sendmsg"}
    assert {f[0] for f in fields if len(f) == 2} == {"w"}
    assert not any("@" in f[-1] for f in fields)


def test_the_library_needs_no_other_and_has_no_executable_stack():
    dynamic = subprocess.run(["readelf", "-dlW", SHIM], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "NEEDED" not in dynamic and "TEXTREL" not in dynamic and "TLS" not in dynamic
    assert "BIND_NOW" in dynamic
    assert not [line for line in dynamic.splitlines() if "GNU_STACK" in line and "RWE" in line]
