"""A file system that does not answer (a dead network mount) hangs whoever touches it. The agent's other clients notice nothing,
and who asks from there is told so, or runs without portwrap."""

import threading

from house import Rpc


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
