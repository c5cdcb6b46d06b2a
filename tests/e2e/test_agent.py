"""The agent's life: started on demand, stopped, restarted, killed, stopped in its tracks, missing. Leases survive what they
should survive, and a command runs whatever is wrong with the agent."""

import json
import os
import re
import shutil
import signal
import socket
import statistics
import stat
import time
from pathlib import Path

import pytest

from house import House, fetch, is_alive, search_path, wait_until


def lines_with(text, word):
    return [line for line in text.splitlines() if word in line]


def test_start_stop_and_status_say_what_is(house):
    status = house.portctl("agent", "status", "--json")
    assert status.returncode == 69
    assert json.loads(status.stdout)["agent"]["running"] is False
    assert house.agent_pids() == [], "status must not start an agent"

    pid = house.start_agent()
    assert house.agent_pids() == [pid]
    agent = house.ask("agent", "status")["agent"]
    assert set(agent) >= {"running", "pid", "version", "protocol", "socket", "uptime_s", "leases", "sessions", "last_cleanup"}
    assert (agent["running"], agent["protocol"], agent["socket"]) == (True, 1, str(house.socket))
    assert isinstance(agent["uptime_s"], (int, float))

    assert house.portctl("agent", "start").returncode == 0, "starting twice is no error"
    assert house.agent_pids() == [pid]
    house.stop_agent()
    assert not house.socket.exists()
    assert not is_alive(pid)


def test_the_runtime_directory_and_the_socket_are_private(house):
    house.start_agent()
    assert stat.S_IMODE(house.socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(house.socket.stat().st_mode) & 0o177 == 0


def test_the_agent_inherits_nothing_from_the_client_that_started_it(house):
    house.run("portwrap", "true", env={"PORT": "4321", "LD_PRELOAD": ""})
    (pid,) = house.agent_pids()
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    environment = dict(item.split(b"=", 1) for item in open(f"/proc/{pid}/environ", "rb").read().split(b"\0") if b"=" in item)
    assert not {b"LD_PRELOAD", b"PORT", b"PORTWRAP_SESSION"} & set(environment)
    assert os.getsid(pid) != os.getsid(0)
    for fd in (0, 1, 2):
        assert "pipe:" not in os.readlink(f"/proc/{pid}/fd/{fd}")


@pytest.mark.parametrize("how", ["stop and start", "restart", "kill"])
def test_leases_survive_the_agent(house, how):
    root, other = house.project("shop"), house.project("blog")
    port = int(house.portctl("get", "web", cwd=root).stdout)
    server = house.wrap("python3", "-m", "http.server", "8000", cwd=other)
    server.wait_for("^Serving HTTP")
    before = {(lease["port"], lease["service"], lease["state"]) for lease in house.leases()}
    assert len(before) == 2
    old = house.agent_pid()
    if how == "stop and start":
        house.stop_agent()
        house.start_agent()
    elif how == "restart":
        assert house.portctl("agent", "restart").returncode == 0
    else:
        house.kill_agent()
    assert {(lease["port"], lease["service"], lease["state"]) for lease in house.leases()} == before
    assert house.agent_pid() != old
    assert int(house.portctl("get", "web", cwd=root).stdout) == port
    # The new agent follows the running server, too.
    held = house.port(other)
    assert fetch(held, "/content.txt") == "content of blog\n"
    server.kill()
    wait_until(lambda: house.leases(other) == [], "the lease ends under the new agent", 2)


def test_a_server_that_ended_while_no_agent_ran_has_no_live_lease_afterwards(house):
    root = house.project("shop")
    server = house.wrap("python3", "-m", "http.server", "8000", cwd=root)
    server.wait_for("^Serving HTTP")
    port = house.port(root)
    house.kill_agent()
    server.kill()
    assert house.leases() == []
    again = house.wrap("python3", "-m", "http.server", "8000", cwd=root)
    again.wait_for("^Serving HTTP")
    assert house.port(root) == port


def test_sigterm_is_a_clean_shutdown(house):
    root = house.project("shop")
    port = house.portctl("get", "web", cwd=root).stdout
    pid = house.agent_pid()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_alive(pid), "the agent ends")
    assert not house.socket.exists()
    assert (house.registry / "ports.json").exists()
    assert house.portctl("get", "web", cwd=root).stdout == port


def test_a_stale_socket_file_is_replaced(house):
    house.socket.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as abandoned:
        abandoned.bind(str(house.socket))
    assert house.socket.exists()
    assert house.leases() == []
    done = house.run("portwrap", "true")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_starts_within_half_a_second_while_the_agent_is_stopped_in_its_tracks(house):
    roots = [house.project(f"p{index}") for index in range(6)]

    def seconds_to_serve(root, *prefix):
        begin = time.monotonic()
        process = house.start(*prefix, "python3", "-m", "http.server", "8000", cwd=root)
        process.wait_for("^Serving HTTP|Address already in use")
        taken = time.monotonic() - begin
        process.kill()
        return taken, process

    plain = statistics.median(seconds_to_serve(root)[0] for root in roots[:3])
    pid = house.start_agent()
    os.kill(pid, signal.SIGSTOP)
    try:
        runs = [seconds_to_serve(root, "portwrap") for root in roots[3:]]
    finally:
        os.kill(pid, signal.SIGCONT)
    for _, process in runs:
        assert len(lines_with(process.stderr, "unmanaged")) == 1, process.stderr
    wrapped = statistics.median(taken for taken, _ in runs)
    assert wrapped - plain < 0.5, (plain, wrapped)
    # Nothing of it is left over when the agent goes on.
    wait_until(lambda: house.leases() == [], "no lease", 15)
    assert house.agent_pids() == [pid]


@pytest.fixture
def crippled(house):
    """Another installation, whose agent a test may break."""
    copy = house.directory / "prefix"
    shutil.copytree(house.prefix, copy, symlinks=True)
    house.prefix = copy
    house.env["PATH"] = search_path(copy)
    return house


@pytest.mark.parametrize("wrong", ["missing", "not executable", "fails", "hangs up"])
def test_a_command_runs_unmanaged_when_the_agent_cannot_be_started(crippled, wrong):
    house: House = crippled
    agent = house.prefix / "bin" / "portwrap-agent"
    agent.unlink()
    if wrong == "not executable":
        agent.write_text("#!/bin/sh\n")
        agent.chmod(0o644)
    elif wrong == "fails":
        agent.write_text("#!/bin/sh\nexit 1\n")
        agent.chmod(0o755)
    elif wrong == "hangs up":
        agent.write_text("#!/bin/sh\nkill -9 $$\n")
        agent.chmod(0o755)
    done = house.run("portwrap", "sh", "-c", "echo hi; exit 3")
    assert (done.returncode, done.stdout) == (3, "hi\n")
    assert len(lines_with(done.stderr, "unmanaged")) == 1, done.stderr
    assert done.stderr.startswith("portwrap: "), done.stderr
    quiet = house.run("portwrap", "-q", "true")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert house.portctl("list").returncode == 69
    error = house.refusal("list", status=69)
    assert error["code"] == "AGENT_UNAVAILABLE"

    # A server gets what it asked for, as without portwrap.
    server = house.wrap("python3", "-c", "import socket; s = socket.create_server(('127.0.0.1', 0)); s.close(); print('bound')",
                        cwd=house.home)
    server.wait_for("^bound")


def test_programs_and_library_agree_on_the_runtime_directory_and_leave_another_users_alone(house):
    """su and sudo may leave XDG_RUNTIME_DIR as it was. What is looked for is seen in system calls that are not carried out."""
    own, anothers, link = house.directory / "own", house.directory / "another's", house.directory / "link"
    for directory in (own, anothers):
        directory.mkdir(mode=0o700)
    link.symlink_to(own)
    if os.geteuid() == 0:
        os.chown(anothers, 65534, 65534)
    else:
        anothers = Path("/")
    trace, library = house.directory / "trace", house.directory / "libportwrap.so"
    library.symlink_to(house.prefix / "lib" / "portwrap" / "libportwrap.so")  # its path has no blank

    def looked_for(*command, env):
        house.run("strace", "-f", "-qq", "-e", "trace=connect", "-e", "inject=connect:error=ECONNREFUSED", "-o", trace, *command, env=env)
        return re.findall(r'sun_path="([^"]*)"', trace.read_text())

    for place, counts in ((own, True), (link, True), (house.directory / "missing", True), (anothers, False)):
        env = {"XDG_RUNTIME_DIR": str(place), "XDG_STATE_HOME": str(house.directory / "nowhere")}
        first, *_ = looked_for("portctl", "agent", "status", env=env)
        assert first.endswith("/agent.sock")
        assert (first == f"{place}/portwrap/agent.sock") == counts
        bind = "import socket; socket.socket().bind(('127.0.0.1', 4321))"
        assert looked_for("env", f"LD_PRELOAD={library}", "/usr/bin/python3", "-c", bind, env=env)[0] == first
    assert list(anothers.glob("portwrap*")) == []


def test_a_runtime_directory_too_deep_for_a_socket_is_a_clear_error(house):
    deep = house.directory / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True, mode=0o700)
    done = house.run("portwrap", "echo", "hi", env={"XDG_RUNTIME_DIR": str(deep)})
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert "unmanaged" in done.stderr
    refused = house.portctl("list", env={"XDG_RUNTIME_DIR": str(deep)})
    assert refused.returncode == 69
    assert "107" in refused.stderr or "longer" in refused.stderr, refused.stderr
