"""The agent leaves cleanly: every handle closed, the last snapshot written, exit status 0, whatever was going on."""

import json
import os
import re
import signal
import socket

import pytest

from house import wait_until


def started(house, *words):
    """The agent as a child of the test, so that its exit status can be seen."""
    process = house.start("portwrap-agent", "--foreground", *words, cwd="/")
    process.wait_for(r"started version=", "stderr")
    return process


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "agent stop"])
def test_it_ends_with_status_0_and_every_handle_closed(house, how):
    process = started(house)
    shop = house.project("shop")
    house.portctl("get", "web", cwd=shop)
    # A session opened and not synced: there is something for the last snapshot.
    house.run("portwrap", "true", cwd=shop)
    if how == "agent stop":
        assert house.portctl("agent", "stop").returncode == 0
    else:
        os.kill(process.pid, getattr(signal, how))
    assert process.wait() == 0
    assert re.search(r"stopped clean=true", process.stderr), process.stderr
    snapshot = json.loads((house.registry / "ports.json").read_text())
    assert [lease["service"] for lease in snapshot["leases"]] == ["web"]
    assert not house.socket.exists()


def test_idle_and_half_closed_clients_do_not_keep_it(house):
    process = started(house)
    clients = []
    for _ in range(20):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(str(house.socket))
        client.sendall(b'{"jsonrpc"')
        clients.append(client)
    clients[0].shutdown(socket.SHUT_WR)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 0
    assert re.search(r"stopped clean=true", process.stderr), process.stderr


def test_a_client_that_does_not_read_its_replies_delays_it_only_a_little(house):
    process = started(house)
    shop = house.project("shop")
    for number in range(30):
        house.portctl("get", f"service{number}", cwd=shop)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(str(house.socket))
    request = b'{"jsonrpc":"2.0","id":1,"method":"lease.list","params":{"all":true}}\n'
    client.sendall(request * 60)
    # Its replies are queued by now: another client is served after it.
    assert house.portctl("list", cwd=shop).returncode == 0
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(10) == 0


def test_a_client_that_half_closes_gets_the_whole_of_a_large_reply(house):
    process = started(house)
    shop = house.project("shop")
    for number in range(120):
        house.portctl("get", f"service{number}", cwd=shop)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(str(house.socket))
    request = b'{"jsonrpc":"2.0","id":1,"method":"lease.list","params":{"all":true}}\n'
    client.sendall(request * 8)
    client.shutdown(socket.SHUT_WR)
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    replies = [json.loads(line) for line in received.splitlines()]
    assert [len(reply["result"]["leases"]) for reply in replies] == [120] * 8
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 0
    wait_until(lambda: not house.socket.exists(), "the socket is gone")
