"""Kernels without socket-destroy notifications, or without sock_diag altogether: the end of a lease is then seen when somebody
asks, and everything else is as everywhere."""

import os
import signal

import pytest

from house import assert_active, fetch, is_alive, wait_until
from test_lease_ends import CLOSER, PARENT, project


@pytest.fixture(params=["groups", "diag"])
def old_house(request, house, listener):
    """The agent, not its clients, lives on such a kernel."""
    done = house.run(str(listener), "without", request.param, "portctl", "agent", "start")
    assert done.returncode == 0, (done.stdout, done.stderr)
    expected = {"groups": "no socket-destroy notifications", "diag": "cannot watch sockets"}[request.param]
    yield house
    assert expected in house.log


def test_a_closed_socket_frees_its_lease_when_somebody_asks(old_house):
    root = project(old_house, CLOSER)
    process = old_house.wrap("python3", "script.py", cwd=root)
    port = int(process.wait_for(r"^port (\d+)")[1])
    (lease,) = old_house.leases(root)
    assert_active(lease, port=port, asked=3000, root=root)
    process.say("\n")
    process.wait_for("^closed")
    assert old_house.leases(root) == []
    process.say("\n")
    assert int(process.wait_for(r"^again (\d+)")[1]) == port


def test_a_killed_server_frees_its_port_for_others(old_house):
    root = project(old_house, CLOSER)
    process = old_house.wrap("python3", "script.py", cwd=root)
    port = int(process.wait_for(r"^port (\d+)")[1])
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert old_house.leases(root) == []
    again = old_house.wrap("python3", "script.py", cwd=root)
    assert int(again.wait_for(r"^port (\d+)")[1]) == port


def test_a_cleanup_says_what_it_ends_and_a_dry_run_ends_nothing(old_house):
    root = project(old_house, CLOSER)
    process = old_house.wrap("sh", "-c", "exec 3<&0; python3 script.py <&3 & echo child $!; wait; read x", cwd=root)
    port = int(process.wait_for(r"^port (\d+)")[1])
    child = int(process.wait_for(r"^child (\d+)")[1])
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not is_alive(child), "the server ends")
    for words, expected in ((["--dry-run"], [(port, "holder_dead")]), ([], [(port, "holder_dead")]), ([], [])):
        released = old_house.ask("cleanup", *words, cwd=root)["released"]
        assert [(entry["lease"]["port"], entry["reason"]) for entry in released] == expected


def test_a_child_that_inherited_the_socket_keeps_the_lease(old_house):
    root = project(old_house, PARENT)
    process = old_house.wrap("python3", "script.py", cwd=root)
    port = int(process.wait_for(r"^port (\d+)")[1])
    child = int(process.wait_for(r"^child (\d+)")[1])
    process.say("\n")
    wait_until(lambda: not process.running(), "the parent ends")
    (lease,) = old_house.leases(root)
    assert lease["holder"]["pid"] == child
    assert_active(lease, port=port, asked=3000, root=root)
    assert fetch(port, "/content.txt") == "content of shop\n"
    process.kill()
    wait_until(lambda: not is_alive(child), "the child ends")
    assert old_house.leases(root) == []


def test_two_servers_get_two_ports_and_check_sees_strangers(old_house):
    shop = project(old_house, CLOSER)
    blog = old_house.project("blog", files={"script.py": CLOSER, "requirements.txt": "\n"})
    first = old_house.wrap("python3", "script.py", cwd=shop)
    second = old_house.wrap("python3", "script.py", cwd=blog)
    ports = [int(process.wait_for(r"^port (\d+)")[1]) for process in (first, second)]
    assert ports[0] != ports[1]
    for port, process in zip(ports, (first, second)):
        checked = old_house.ask("check", str(port), status=1)
        assert [entry["pid"] for entry in checked["listeners"]] == [process.pid]
