"""A file system that does not answer (a dead network mount) hangs whoever touches it. The agent's other clients notice nothing,
and who asks from there is told so, or runs without portwrap."""

import ctypes
import os
import threading

import pytest

from house import Rpc

MNT_DETACH = 2  # umount2(2)


@pytest.fixture
def dead_mount(tmp_path):
    """A FUSE mount whose server never says a word."""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("mounting needs root and /dev/fuse")
    libc = ctypes.CDLL(None, use_errno=True)
    point = tmp_path / "dead mount"
    point.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"dead", os.fsencode(point), b"fuse", 0, options) != 0:
        os.close(device)
        pytest.skip("cannot mount: " + os.strerror(ctypes.get_errno()))
    yield point
    libc.umount2(os.fsencode(point), MNT_DETACH)
    os.close(device)  # whoever hangs there gets ENOTCONN now


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
