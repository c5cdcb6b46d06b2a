"""An agent that leaves: it has closed its socket and still has the registry's lock while it saves, or while a peer does not
read. Who comes in that moment gets the next agent."""

import os
import signal

from house import Rpc, connect_to_agent, wait_until


def request(number):
    return ('{"jsonrpc":"2.0","id":%d,"method":"lease.list","params":{"all":true}}\n' % number).encode()


def test_a_client_that_comes_while_the_agent_leaves_gets_the_next_one(house):
    shop = house.project("shop")
    house.ask("allocate", "web", "--count", "60", cwd=shop)
    pid = house.agent_pid()
    # One peer asks for much and reads nothing: the agent waits two seconds for it when it leaves, with the lock in its hand.
    deaf = connect_to_agent(house)
    deaf.setblocking(False)
    try:
        for number in range(2000):
            deaf.send(request(number))
    except BlockingIOError:
        pass
    os.kill(pid, signal.SIGTERM)
    # Whatever the moment: answered by an agent, and by one that knows everything.
    leases = house.ask("list", cwd=shop)["leases"]
    assert len(leases) == 60
    wait_until(lambda: house.start_agent() != pid, "the next agent serves")
    deaf.close()
    wrapped = house.run("portwrap", "echo", "hi", cwd=shop)
    assert (wrapped.returncode, wrapped.stdout, wrapped.stderr) == (0, "hi\n", "")
    assert "result" in Rpc(house).call("agent.status", {})
