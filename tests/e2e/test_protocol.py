"""Strangers at the socket: whatever bytes arrive, the agent answers with an error or hangs up, the registry is unchanged and
other clients are served meanwhile."""

import json
import os
import signal
import socket
import struct

import pytest

from house import SANITIZED, Rpc, connect_to_agent, resident_kb, wait_until


@pytest.fixture
def shop(house):
    root = house.project("shop")
    house.portctl("get", "web", cwd=root)
    return root


@pytest.fixture
def unharmed(house, shop):
    """Checks at the end that the agent lives, knows the same leases and still answers a client that came before."""
    before = house.leases()
    pid = house.agent_pid()
    witness = Rpc(house)
    assert "result" in witness.call("agent.status", {})
    yield
    assert "result" in witness.call("agent.status", {})
    witness.close()
    assert house.leases() == before
    assert house.agent_pids() == [pid]


@pytest.fixture
def rpc(house, unharmed):
    connection = Rpc(house)
    yield connection
    connection.close()


def request(method, params, **more):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **more}).encode() + b"\n"


def nested(depth):
    return b'{"jsonrpc":"2.0","id":1,"method":"agent.status","params":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}\n"


@pytest.mark.parametrize("line, code", [
    (b"hello\n", -32700), (b"\n", -32700), (b"{\n", -32700), (b"\x00\x01\x02\n", -32700), (b"\xff\xfe\n", -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"agent.status","params":{"cwd":"\xff"}}\n', -32700),
    (b'{"jsonrpc":"2.0","id":1,"method":"agent.status","params":{}} trailing\n', -32700),
    (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"agent.status","params":{}}\n', None),
    (b'{"jsonrpc":"2.0","id":1,"method":"port.check","params":{"cwd":"/","port":3000,"port":3001}}\n', None),
    (nested(1000), None), (nested(40), None), (b"[" * 60000 + b"\n", None),
    (b"[]\n", -32600), (b"1\n", -32600), (b"null\n", -32600), (b'"x"\n', -32600), (b"{}\n", -32600),
    (b'{"jsonrpc":"1.0","id":1,"method":"agent.status","params":{}}\n', -32600),
    (b'{"jsonrpc":"2.0","id":1,"method":7,"params":{}}\n', -32600),
    (b'{"jsonrpc":"2.0","id":{},"method":"agent.status","params":{}}\n', -32600),
], ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else str(value))
def test_what_is_no_request_gets_an_error_and_the_connection_is_closed(rpc, line, code):
    rpc.send(line)
    reply = rpc.line()
    assert reply is not None and "error" in reply, reply
    assert reply["error"]["code"] == code if code else reply["error"]["code"] in (-32700, -32600), reply
    assert reply["id"] is None or reply["id"] == 1
    assert rpc.line() is None


@pytest.mark.parametrize("line, code", [
    (request("no.such", {}), -32601), (request("", {}), -32601),
    (request("agent.status", {"unknown": 1}), -32602), (request("agent.status", []), -32602),
    (request("lease.get", {}), -32602), (request("lease.get", {"cwd": "/tmp"}), -32602),
    (request("lease.get", {"cwd": "relative", "service": "web"}), -32602),
    (request("lease.get", {"cwd": "/tmp", "service": 7}), -32602),
    (request("lease.get", {"cwd": "/tmp", "service": None}), -32602),
    (request("lease.get", {"cwd": "/tmp", "service": "a\nb"}), -32602),
    (request("lease.list", {"cwd": "/tmp", "states": ["no-such"]}), -32602),
    (request("lease.list", {"cwd": "/tmp", "states": "active"}), -32602),
    (request("lease.list", {"all": "yes"}), -32602),
    (request("lease.release", {"cwd": "/tmp"}), -32602),
    (request("lease.release", {"cwd": "/tmp", "everything": True, "port": 3000}), -32602),
    (request("session.open", {"cwd": "/tmp", "command": "x"}), -32602),
    (request("session.open", {"cwd": "/tmp", "command": [1]}), -32602),
    (request("session.open", {"command": ["x"]}), -32602),
    (request("shim.bind", {"port": 3000}), -32602),
], ids=lambda value: repr(value)[36:90] if isinstance(value, bytes) else str(value))
def test_a_wrong_request_gets_an_error_and_the_connection_stays(rpc, line, code):
    rpc.send(line)
    reply = rpc.line()
    assert reply["error"]["code"] == code, reply
    assert reply["id"] == 1
    if code == -32602:
        assert reply["error"]["data"]["code"] == "INVALID_REQUEST"
    assert "result" in rpc.call("agent.status", {}, 2)


@pytest.mark.parametrize("port", ["70000", "-1", "80.9", "true", '"3000"', "null", "[]", "{}", "0", "65536", "3e3", "1e400",
                                  "18446744073709551617", "-0"])
def test_what_is_no_port_is_refused_and_never_bent_into_one(rpc, port):
    rpc.send(b'{"jsonrpc":"2.0","id":5,"method":"port.check","params":{"cwd":"/tmp","port":%s}}\n' % port.encode())
    reply = rpc.line()
    assert "error" in reply, reply
    assert reply["error"]["code"] in (-32602, -32700), reply
    if reply["error"]["code"] == -32602:
        assert "result" in rpc.call("agent.status", {}, 6)


@pytest.mark.parametrize("change", [
    {"port": 70000}, {"port": -1}, {"port": 80.9}, {"port": True}, {"port": "3000"}, {"family": 1}, {"scope": 9}, {"protocol": 1},
    {"reuseport": "x"}, {"cookie": -1}, {"cookie": 1.5}, {"session": [1]}, {"session": "x"}, {"session": [-1, 0]}, {"extra": 1}],
    ids=str)
def test_wrong_fields_of_the_shim_s_message_are_refused(rpc, change):
    params = {"port": 3000, "family": 2, "scope": 0, "protocol": 6, "reuseport": 0, "cookie": 77, "netns": 0, "session": [0, 0]}
    reply = rpc.call("shim.bind", {**params, **change})
    assert reply["error"]["code"] == -32602, reply


def test_an_over_long_line_is_refused_and_the_connection_closed(rpc):
    line = b'{"jsonrpc":"2.0","id":1,"method":"agent.status","params":{"cwd":"' + b"x" * (65 * 1024) + b'"}}\n'
    try:
        rpc.send(line)
    except (BrokenPipeError, ConnectionResetError):
        pass
    reply = rpc.line()
    assert reply is None or "error" in reply
    if reply is not None:
        assert rpc.line() is None


def test_a_line_just_within_the_bound_is_read(rpc):
    head, tail = b'{"jsonrpc":"2.0","id":1,"method":"no.such","params":{"cwd":"', b'"}}\n'
    rpc.send(head + b"x" * (64 * 1024 - len(head) - len(tail)) + tail)
    assert rpc.line()["error"]["code"] in (-32601, -32602)


def test_an_endless_line_does_not_grow_the_agent(house, rpc):
    before = resident_kb(house.agent_pids()[0])
    try:
        for _ in range(512):
            rpc.send(b"x" * 65536)
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert resident_kb(house.agent_pids()[0]) - before < 8192


def test_a_request_fed_one_byte_at_a_time_is_answered(rpc):
    for byte in request("agent.status", {}):
        rpc.send(bytes([byte]))
    assert rpc.line()["result"]["ok"] is True


def test_many_requests_in_one_write_are_answered_in_order(rpc):
    rpc.send(b"".join(json.dumps({"jsonrpc": "2.0", "id": number, "method": "agent.status", "params": {}}).encode() + b"\n"
                      for number in range(200)))
    assert [rpc.line()["id"] for _ in range(200)] == list(range(200))


def test_a_notification_gets_no_reply(rpc):
    rpc.send(b'{"jsonrpc":"2.0","method":"agent.status","params":{}}\n')
    assert rpc.call("agent.status", {}, 9)["id"] == 9


def test_half_a_message_and_a_hang_up_disturb_nobody(house, unharmed, shop):
    whole = request("lease.get", {"cwd": str(shop), "service": "never"})
    for length in range(1, len(whole) - 1, 7):
        connection = connect_to_agent(house)
        connection.sendall(whole[:length])
        connection.close()
    # The same with a reset instead of an orderly end.
    for _ in range(50):
        connection = connect_to_agent(house)
        connection.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER
        connection.sendall(whole[:20])
        connection.close()


def test_what_is_asked_by_a_peer_that_hung_up_before_is_not_decided(house, unharmed, shop):
    pid = house.agent_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        for number in range(20):
            connection = connect_to_agent(house)
            connection.sendall(request("lease.get", {"cwd": str(shop), "service": f"never{number}"}))
            connection.close()
        # One that only says that it will not ask more is answered.
        half = Rpc(house)
        half.send(request("lease.port", {"cwd": str(shop), "service": "web"}))
        half.connection.shutdown(socket.SHUT_WR)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert half.line()["result"]["lease"]["service"] == "web"
    assert half.line() is None


def test_a_connection_whose_reading_paused_goes_on(rpc):
    """More requests at once than the agent keeps of one connection: it reads on when these are answered, again and again."""
    for _ in range(3):
        rpc.send(request("agent.status", {}) * 300)
        assert all(rpc.line()["result"]["ok"] for _ in range(300))


def test_half_a_message_is_told_so_and_ends(rpc):
    rpc.send(b'{"jsonrpc":"2.0","id":1,')
    reply = rpc.line()
    assert reply["error"]["data"]["code"] == "INVALID_REQUEST"
    assert "not finished" in reply["error"]["message"]
    assert rpc.line() is None


def test_a_flood_of_half_messages_is_bounded_and_the_oldest_are_told_so(house, unharmed):
    flood = [Rpc(house) for _ in range(400)]
    for connection in flood:
        connection.send(b"x" * 60000)
    assert "too many unfinished" in flood[0].line()["error"]["message"]
    if not SANITIZED:  # their own bookkeeping doubles every byte
        assert resident_kb(house.agent_pids()[0]) < 32 * 1024
    for connection in flood:
        connection.close()


def test_clients_that_never_read_do_not_stop_the_others(house, unharmed, shop):
    deaf = [connect_to_agent(house) for _ in range(20)]
    for connection in deaf:
        connection.setblocking(False)
        try:
            for _ in range(2000):
                connection.send(request("lease.list", {"all": True}))
        except BlockingIOError:
            pass
    assert "result" in Rpc(house).call("agent.status", {})
    for connection in deaf:
        connection.close()


def test_many_idle_connections_leave_room_for_work(house, unharmed):
    idle = [connect_to_agent(house) for _ in range(300)]
    assert len(house.leases()) == 1
    for connection in idle:
        connection.close()


def test_a_client_killed_in_the_middle_disturbs_nobody(house, unharmed):
    script = ("import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
              "s.sendall(b'{\"jsonrpc\"')\nprint('sent')\nsys.stdin.read()\n")
    for _ in range(5):
        client = house.start("python3", "-c", script, str(house.socket), cwd=house.home)
        client.wait_for("^sent")
        os.kill(client.pid, signal.SIGKILL)
        client.wait()


def test_files_of_a_project_that_would_block_do_not_stop_the_agent(house, unharmed, tmp_path):
    root = house.project("trap")
    os.mkfifo(root / "package.json")
    rpc = Rpc(house)
    reply = rpc.call("lease.port", {"cwd": str(root), "service": "web"})
    assert reply["error"]["data"]["code"] == "NOT_FOUND"
    os.unlink(root / "package.json")
    (root / "package.json").write_bytes(b"[" * (2 << 20))
    reply = rpc.call("lease.port", {"cwd": str(root), "service": "web"}, 2)
    assert reply["error"]["data"]["code"] == "NOT_FOUND"


def test_the_documented_example_works(house, shop):
    """The exchange that docs/protocol.md shows, by hand."""
    house.start_agent()
    rpc = Rpc(house)
    assert rpc.call("agent.status", {})["result"]["agent"]["running"] is True
    got = rpc.call("lease.get", {"cwd": str(shop), "service": "web"}, 2)["result"]["lease"]
    listed = rpc.call("lease.list", {"cwd": str(shop)}, 3)["result"]["leases"]
    assert [lease["port"] for lease in listed] == [got["port"]]
    assert rpc.call("lease.port", {"cwd": str(shop), "service": "web"}, 4)["result"]["lease"]["port"] == got["port"]
    checked = rpc.call("port.check", {"cwd": str(shop), "port": got["port"]}, 5)["result"]
    assert checked["lease"]["port"] == got["port"]
    released = rpc.call("lease.release", {"cwd": str(shop), "service": "web"}, 6)["result"]["leases"]
    assert [(lease["port"], lease["state"]) for lease in released] == [(got["port"], "released")]
    assert rpc.call("lease.port", {"cwd": str(shop), "service": "web"}, 7)["error"]["data"]["code"] == "NOT_FOUND"
    wait_until(lambda: house.leases() == [], "nothing is left")
