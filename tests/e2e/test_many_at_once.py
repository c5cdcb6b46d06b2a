"""Hundreds of processes ask for one port at the same instant: everybody gets one of his own and the registry knows them
all; and nobody gets a port twice when the agent is killed in the middle of it.

PORTWRAP_TEST_THOUSAND=1 adds a run with 1,000 processes."""

import contextlib
import errno
import os
import resource
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from house import PATIENCE, Rpc, environment_of, every_pid, is_alive, really_listens, wait_until


class Crowd:
    """Many `portwrap listener bind PORT`, released by one gate at the same instant. They share one pipe for their
    reports and one file for stderr, and end when their stdin does."""

    def __init__(self, house, listener, count, cwd_of, port=3000):
        soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
        self.count = count
        self.stderr_path = Path(tempfile.mkstemp(prefix="stderr-", dir=house.directory)[1])
        gate_read, self.gate = os.pipe()
        stdin_read, self.stdin = os.pipe()
        self.reports, report_write = os.pipe()
        with open(self.stderr_path, "ab") as stderr:
            self.processes = [
                subprocess.Popen(
                    [listener, "gate", str(gate_read), "portwrap", str(listener), "bind", str(port)],
                    cwd=cwd_of(index), env=house.env, stdin=stdin_read, stdout=report_write, stderr=stderr,
                    pass_fds=[gate_read])
                for index in range(count)]
        for fd in (gate_read, stdin_read, report_write):
            os.close(fd)
        self.ports = {}    # pid: port
        self.failures = {}  # pid: errno
        self._one_more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with os.fdopen(self.reports) as lines:
            for line in lines:
                pid, value = map(int, line.split())
                with self._one_more:
                    if value > 0:
                        self.ports[pid] = value
                    else:
                        self.failures[pid] = -value
                    self._one_more.notify_all()

    def open_gate(self):
        os.close(self.gate)

    def wait_for(self, count, deadline=4 * PATIENCE):
        with self._one_more:
            assert self._one_more.wait_for(lambda: len(self.ports) + len(self.failures) >= count, deadline), (
                f"{len(self.ports)} ports and {len(self.failures)} failures of {count}; {self.stderr[-2000:]}")

    @property
    def stderr(self):
        return self.stderr_path.read_text(errors="replace")

    def close(self):
        with contextlib.suppress(OSError):
            os.close(self.gate)
        with contextlib.suppress(OSError):
            os.close(self.stdin)
        for process in self.processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def crowd(house, listener):
    crowds = []

    def gather(count, cwd_of):
        crowds.append(Crowd(house, listener, count, cwd_of))
        return crowds[-1]

    yield gather
    for each in crowds:
        each.close()


COUNTS = [200, pytest.param(1000, marks=pytest.mark.skipif(
    not os.environ.get("PORTWRAP_TEST_THOUSAND"), reason="PORTWRAP_TEST_THOUSAND is not set"))]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("where", ["one project", "a project each"])
def test_processes_started_at_one_instant_get_as_many_ports_and_registry_entries(house, crowd, count, where):
    shop = house.project("shop")
    roots = [shop if where == "one project" else house.project(f"p{index}") for index in range(count)]
    everyone = crowd(count, lambda index: roots[index])
    everyone.open_gate()
    everyone.wait_for(count)
    assert everyone.failures == {}
    assert len(set(everyone.ports.values())) == count
    assert "unmanaged" not in everyone.stderr
    assert len(house.agent_pids()) == 1

    leases = house.leases()
    assert {lease["holder"]["pid"]: lease["port"] for lease in leases} == everyone.ports
    assert len(leases) == count
    assert {lease["state"] for lease in leases} == {"active"}
    assert {lease["requested_port"] for lease in leases} == {3000}
    if where == "one project":
        assert sorted(lease["instance"] for lease in leases) == list(range(count))
    else:
        assert {lease["project"]["root"] for lease in leases} == {str(root) for root in roots}

    everyone.close()
    wait_until(lambda: house.leases() == [], "all leases end", 10)


def test_nobody_gets_a_port_twice_when_the_agent_is_killed_in_the_middle(house, crowd):
    shop, tools = house.project("shop"), house.project("tools")
    house.start_agent()
    groups = [crowd(50, lambda index: shop) for _ in range(4)]
    acknowledged = {}  # service: port
    stop = threading.Event()

    def allocate(worker):
        number = 0
        while not stop.is_set():
            service = f"svc{worker}-{number}"
            done = house.portctl("get", service, cwd=tools)
            if done.returncode == 0:
                acknowledged[service] = int(done.stdout)
                number += 1

    workers = [threading.Thread(target=allocate, args=(worker,)) for worker in range(3)]
    for worker in workers:
        worker.start()
    try:
        for group in groups:
            group.open_gate()
            group.wait_for(1)
            wait_until(house.kill_serving_agent, "the agent is killed while the group starts")
        for group in groups:
            group.wait_for(group.count)
        some = len(acknowledged)
        wait_until(lambda: len(acknowledged) > some + 5, "named leases are given again after the last kill")
    finally:
        stop.set()
        for worker in workers:
            worker.join(2 * PATIENCE)
    house.kill_agent()
    house.start_agent()

    leases = house.leases()
    remembered = {lease["service"]: lease["port"] for lease in leases if lease["project"]["root"] == str(tools)}
    assert {service: remembered.get(service) for service in acknowledged} == acknowledged
    ports = [lease["port"] for lease in leases]
    assert len(ports) == len(set(ports)), sorted(port for port in ports if ports.count(port) > 1)

    # Who listens has his port alone, in the kernel and in the registry. A process may have failed with EADDRINUSE, or
    # run unmanaged on the port that it asked for; whoever was given another port is known.
    listening = {pid: port for group in groups for pid, port in group.ports.items()}
    assert len(set(listening.values())) == len(listening)
    assert all(really_listens(pid, port) for pid, port in listening.items())
    assert {error for group in groups for error in group.failures.values()} <= {errno.EADDRINUSE}
    active = {lease["holder"]["pid"]: lease["port"] for lease in leases if lease["state"] == "active"}
    assert active.items() <= listening.items()
    unknown = {pid: port for pid, port in listening.items() if port != 3000 and port not in active.values()}
    assert unknown == {}, [line for line in house.log.splitlines() if any(f"port={port} " in line for port in unknown.values())]
    assert not set(acknowledged.values()) & set(active.values())


def test_a_thousand_requests_through_open_connections_get_a_thousand_ports(house):
    """The protocol alone: 64 clients ask for named leases at the same time."""
    root = house.project("shop")
    house.start_agent()
    ports, failures = [], []

    def client(number):
        rpc = Rpc(house)
        for index in range(16):
            reply = rpc.call("lease.get", {"cwd": str(root), "service": f"s{number}-{index}"}, index)
            (ports if "result" in reply else failures).append(reply)
        rpc.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * PATIENCE)
    assert failures == []
    assert len({reply["result"]["lease"]["port"] for reply in ports}) == 1024
    house.kill_agent()
    house.start_agent()
    remembered = {lease["service"]: lease["port"] for lease in house.leases(root)}
    assert remembered == {reply["result"]["lease"]["service"]: reply["result"]["lease"]["port"] for reply in ports}


@pytest.mark.parametrize("how", ["agent start", "list", "portwrap"])
def test_ten_clients_at_once_start_exactly_one_agent(house, listener, how):
    command = {"agent start": ["portctl", "agent", "start"], "list": ["portctl", "list"], "portwrap": ["portwrap", "true"]}[how]
    for _ in range(3):
        gate_read, gate = os.pipe()
        clients = [
            subprocess.Popen([listener, "gate", str(gate_read), *command], cwd=house.home, env=house.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[gate_read])
            for _ in range(10)]
        os.close(gate_read)
        os.close(gate)
        for process in clients:
            output, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, output
            assert b"unmanaged" not in output
        # The losers of the race for the lock may still be on their way out.
        here = str(house.runtime).encode()
        wait_until(lambda: len(house.agent_pids()) == 1, lambda: f"one agent: {house.agent_pids()}", 5)
        assert house.agent_pids() == [house.agent_pid()]
        assert not [pid for pid in every_pid() if is_alive(pid) and pid != house.agent_pid()
                    and environment_of(pid).get(b"XDG_RUNTIME_DIR") == here]
        house.kill_agent()
