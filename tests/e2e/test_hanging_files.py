"""A file system that does not answer (a dead network mount) hangs whoever touches it. The agent's other clients notice nothing,
and who asks from there is told so, or runs without portwrap."""

import json
import resource
import subprocess
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


def test_imports_behind_one_that_hangs_are_refused_in_time_and_go_on_when_it_ends(house, dead_mount):
    """One at a time, until its work has ended: whoever asked for it has been answered long before."""
    shop = house.project("shop")
    house.portctl("get", "web", cwd=shop)
    file = house.home / "ports.csv"
    file.write_text("port,service\n3999,api\n")

    def ask(path):
        rpc = Rpc(house)
        rpc.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "exchange.import", "params": {"cwd": str(shop), "path": str(path)}}).encode() + b"\n")
        return rpc

    first = ask(f"{dead_mount}/ports.csv")
    house.ask("get", "web", cwd=shop)  # what comes now comes after it
    gone = [ask(file) for _ in range(3)]
    house.ask("get", "web", cwd=shop)
    for rpc in gone:
        rpc.close()
    others = [ask(file) for _ in range(22)]
    messages = [rpc.line()["error"]["message"] for rpc in others]
    assert sorted(set(messages)) == ["16 other imports wait for their turn already", "another import is still being read"]
    assert messages.count("another import is still being read") == 16
    assert "does not answer" in first.line()["error"]["message"]
    # Nobody waits for it any more, but its work has not ended.
    assert house.refusal("import", str(file), cwd=shop, status=69)["message"] == "another import is still being read"
    waiting = ask(file)
    subprocess.run(["umount", "-f", str(dead_mount)], check=False)
    assert [lease["port"] for lease in waiting.line()["result"]["imported"]] == [3999]
    for rpc in (first, *others, waiting):
        rpc.close()
