"""A file system that does not answer (a dead network mount) hangs whoever touches it. The agent's other clients notice nothing,
and who asks from there is told so, or runs without portwrap."""

import json
import resource
import threading

import pytest

from house import SANITIZED, Rpc, connect_to_agent, peak_kb


@pytest.fixture
def many_descriptors():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 4096:
        pytest.skip("this process may not open 4,096 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_dead_mount_stops_nobody_else(house, dead_mount):
    shop = house.project("shop")
    house.portctl("get", "web", cwd=shop)
    replies = {}

    def ask(number):
        rpc = Rpc(house)
        replies[number] = rpc.call("lease.get", {"cwd": f"{dead_mount}/project{number}", "service": "web"})
        rpc.close()

    hanging = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in hanging:
        thread.start()
    # Meanwhile, from directories that the agent has never seen:
    for number in range(20):
        other = house.project(f"other{number}")
        house.ask("get", "web", cwd=other)
    for thread in hanging:
        thread.join()
    assert len(replies) == 40
    for reply in replies.values():
        assert reply["error"]["data"]["code"] == "AGENT_UNAVAILABLE"
        assert "does not answer" in reply["error"]["message"]
    assert all(str(dead_mount) not in lease["project"]["root"] for lease in house.leases())
    # Known by now: who asks again is told at once, and the agent still leaves in good order.
    rpc = Rpc(house)
    assert "does not answer" in rpc.call("lease.get", {"cwd": f"{dead_mount}/project1", "service": "web"})["error"]["message"]
    house.stop_agent()


def test_a_crowd_with_long_paths_on_a_dead_mount_takes_little_memory(house, dead_mount, many_descriptors):
    """Each of them keeps copies of its path while it waits, so not all of them are let wait."""
    pid = house.start_agent()
    directory = f"{dead_mount}/" + ("x" * 200 + "/") * 17
    connections = [connect_to_agent(house) for _ in range(3000)]
    for number, connection in enumerate(connections):
        connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "lease.list", "params": {"cwd": f"{directory}p{number}"}}).encode() + b"\n")
    assert house.portctl("get", "web", cwd=house.project("shop")).returncode == 0
    for connection in connections:
        assert "does not answer" in json.loads(connection.makefile().readline())["error"]["message"]
        connection.close()
    assert SANITIZED or peak_kb(pid) < 32 * 1024
