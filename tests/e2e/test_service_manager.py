"""The agent as a service of the user's systemd: started by its socket, or by the first client; stopped, replaced, killed, and
never losing the socket or a lease. With a real `systemd --user` where one can be run, and with systemd-socket-activate."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import threading

import pytest

from house import PATIENCE, Rpc, assert_active, connect_to_agent, is_alive, wait_until
from user_manager import UserManager, why_not

SOCKET, SERVICE = "portwrap-agent.socket", "portwrap-agent.service"


@pytest.fixture
def manager(house, prefix):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    running = UserManager(house, prefix / "lib" / "systemd" / "user")
    yield running
    running.close()


def serve(house, listener, root, port=3000):
    process = house.wrap(listener, "bind", str(port), cwd=root)
    return process, int(process.wait_for(r"^\d+ (\d+)$")[1])


def peer_pid(house):
    with connect_to_agent(house) as connection:
        return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def test_the_units_are_sound(house, prefix):
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    units = [str(prefix / "lib" / "systemd" / "user" / name) for name in (SOCKET, SERVICE)]
    done = house.run("systemd-analyze", "--user", "--man=no", "verify", *units)
    # Without a session there is no manager whose opinion on delegated groups could be asked; nothing else may be said.
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_activated_agent_serves_the_socket_and_leaves_its_file(house):
    if not shutil.which("systemd-socket-activate"):
        pytest.skip("no systemd-socket-activate")
    house.socket.parent.mkdir(mode=0o700)
    activator = house.start("systemd-socket-activate", f"--listen={house.socket}", "-E", "HOME", "-E", "XDG_RUNTIME_DIR", "-E", "XDG_STATE_HOME",
                            "-E", "XDG_CONFIG_HOME", shutil.which("portwrap-agent", path=house.env["PATH"]), cwd="/")
    activator.wait_for("Listening on", stream="stderr")
    shop = house.project("shop")
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    pid = house.agent_pid()
    assert pid == activator.pid, "the activator became the agent"
    assert peer_pid(house) == pid, "SO_PEERCRED names the agent and not who listened before"
    assert house.portctl("agent", "stop").returncode == 0
    assert activator.wait() == 0
    assert house.socket.exists(), "the file is the activator's"
    # Nobody listens there any more: a client replaces it, as any stale socket.
    assert int(house.portctl("get", "web", cwd=shop).stdout) == port
    assert house.agent_pid() != pid


def test_a_socket_of_another_name_and_variables_of_another_process_are_not_ours(house, prefix):
    house.start_agent()
    house.stop_agent()
    agent = shutil.which("portwrap-agent", path=house.env["PATH"])
    other = house.run("env", "LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=own", agent, "--version")
    assert other.returncode == 0
    process = house.start("env", "LISTEN_PID=1", "LISTEN_FDS=1", agent, "--foreground", cwd="/")
    process.wait_for("started", stream="stderr")
    assert peer_pid(house) == process.pid
    house.stop_agent()
    assert not house.socket.exists()


def test_a_client_has_the_manager_start_the_agent(house, manager, listener):
    assert manager.state(SOCKET) == "inactive"
    assert house.portctl("agent", "status").returncode == 69
    shop = house.project("shop")
    server, port = serve(house, listener, shop)
    assert (manager.state(SOCKET), manager.state(SERVICE)) == ("active", "active")
    pid = manager.main_pid()
    assert house.agent_pids() == [pid] and house.agent_pid() == pid
    assert SERVICE in open(f"/proc/{pid}/cgroup").read()
    # Everything that it must see it sees: the holder, its directory, who listens, and the end at once.
    (lease,) = house.leases(shop)
    assert_active(lease, port=port, asked=3000, root=shop)
    (found,) = house.ask("who", str(port))["listeners"]
    assert (found["pid"], found["cwd"]) == (lease["holder"]["pid"], str(shop))
    assert house.ask("health", cwd=shop)["checks"][0]["health"] == "healthy"
    checks = {check["name"]: check["status"] for check in house.ask("doctor")["checks"]}
    assert "error" not in checks.values(), checks
    server.kill()
    wait_until(lambda: house.leases(shop) == [], "the lease ends with its server")


def test_asking_for_the_status_starts_nothing_and_a_stop_keeps_the_socket(house, manager):
    manager.do("start", SOCKET)
    assert house.socket.exists()
    assert house.portctl("agent", "status").returncode == 69
    assert house.portctl("_complete", "portctl", "port", "").stdout == ""
    assert "not running" in house.portctl("agent", "stop").stdout
    assert house.agent_pids() == [] and manager.state(SERVICE) == "inactive"

    shop = house.project("shop")
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    pid = house.agent_pid()
    assert (pid, peer_pid(house)) == (manager.main_pid(), pid)
    inode = house.socket.stat().st_ino
    assert house.portctl("agent", "stop").stdout == "agent: stopped\n"
    assert not is_alive(pid)
    assert house.portctl("agent", "status").returncode == 69
    assert (manager.state(SOCKET), house.socket.stat().st_ino) == ("active", inode)

    assert int(house.portctl("get", "web", cwd=shop).stdout) == port
    first = house.agent_pid()
    assert house.portctl("agent", "restart").returncode == 0
    second = house.agent_pid()
    assert first != second == manager.main_pid()
    manager.do("restart", SERVICE)
    assert house.port(shop, "web") == port
    manager.do("stop", SOCKET, SERVICE)
    assert not house.socket.exists()


def test_a_killed_service_comes_back_with_its_leases(house, manager, listener):
    shop = house.project("shop")
    server, port = serve(house, listener, shop)
    pid = manager.main_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: manager.main_pid() not in (0, pid), "the manager starts it again")
    assert house.port(shop) == port
    server.kill()
    wait_until(lambda: house.leases(shop) == [], "the lease ends under the next agent")


def test_the_service_takes_over_from_an_agent_that_a_client_started(house, manager, listener):
    # As before the units were installed: variables that the manager does not have make the client start its own.
    alone = {"RESERVED_PORTS": "3999"}
    assert house.run("portctl", "agent", "start", env=alone).returncode == 0
    (own,) = house.agent_pids()
    assert manager.state(SERVICE) == "inactive"
    shop = house.project("shop")
    server, port = serve(house, listener, shop)
    manager.do("start", SOCKET)
    wait_until(lambda: not is_alive(own), lambda: "an agent that has lost its socket to the manager leaves\n" + house.log)
    assert house.port(shop) == port
    assert house.agent_pids() == [manager.main_pid()]
    server.kill()
    wait_until(lambda: house.leases(shop) == [], "the lease ends under the service")


def test_the_service_takes_over_from_an_agent_of_another_runtime_directory(house, manager):
    elsewhere = house.directory / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    shop = house.project("shop")
    port = int(house.run("portctl", "get", "web", cwd=shop, env={"XDG_RUNTIME_DIR": str(elsewhere)}).stdout)
    manager.do("start", SOCKET)
    assert house.port(shop, "web") == port
    pid = manager.main_pid()
    assert house.agent_pid() == pid
    assert not (elsewhere / "portwrap" / "agent.sock").exists()
    # And from there one finds it.
    done = house.run("portctl", "agent", "status", "--json", env={"XDG_RUNTIME_DIR": str(elsewhere)})
    assert f'"pid":{pid}' in done.stdout.replace(" ", ""), done.stdout


def test_thirty_first_clients_get_one_service(house, manager):
    shop = house.project("shop")
    clients = [house.start("portctl", "get", f"s{index}", cwd=shop) for index in range(30)]
    assert [client.wait() for client in clients] == [0] * 30
    assert len({client.stdout for client in clients}) == 30
    assert house.agent_pids() == [manager.main_pid()]


def test_a_manager_that_has_given_up_keeps_nobody_from_an_agent(house, manager):
    # However slow the machine is: the manager starts the service four times and no more.
    limit = house.home / ".config" / "systemd" / "user" / f"{SERVICE}.d" / "limit.conf"
    limit.parent.mkdir(parents=True)
    limit.write_text("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=4\n")
    manager.do("daemon-reload")
    shop = house.project("shop")
    port = house.portctl("get", "web", cwd=shop).stdout
    for _ in range(8):
        assert house.portctl("agent", "stop").returncode == 0
        assert house.portctl("get", "web", cwd=shop).stdout == port
    assert manager.main_pid() == 0 and len(house.agent_pids()) == 1, "the clients started one"
    assert "start-limit-hit" in manager.do("show", "-p", "Result", SERVICE, SOCKET)
    house.stop_agent()
    limit.unlink()
    manager.do("daemon-reload")
    manager.ctl("stop", SOCKET)
    manager.ctl("reset-failed")
    assert house.portctl("get", "web", cwd=shop).stdout == port
    assert house.agent_pids() == [manager.main_pid()]


def test_a_service_that_refuses_to_serve_says_why_and_stays_away(house, manager):
    shop = house.project("shop")
    assert house.portctl("get", "web", cwd=shop).returncode == 0
    house.stop_agent()
    manager.do("stop", SOCKET)
    house.make_registry_newer()
    refused = house.portctl("get", "web", cwd=shop)
    assert refused.returncode == 69 and "schema_version 99 is newer" in refused.stderr
    done = house.run("portwrap", "echo", "hi", cwd=shop)
    assert (done.returncode, done.stdout) == (0, "hi\n") and "unmanaged" in done.stderr
    assert "schema_version 99 is newer" in house.log
    wait_until(lambda: not house.agent_pids(), "the agent that refused has ended")


def test_a_deleted_socket_of_the_managers_is_made_anew(house, manager):
    shop = house.project("shop")
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    pid = manager.main_pid()
    house.socket.unlink()
    wait_until(house.socket.exists, "the socket is back")
    assert house.port(shop, "web") == port
    assert house.agent_pid() == pid
    house.stop_agent()
    assert house.port(shop, "web") == port


def test_a_replaced_program_takes_over_in_the_running_process(house, listener, prefix):
    """What an upgrade does: the file is replaced, SIGUSR2 says so. The process stays, and no client notices."""
    place = house.directory / "installed"
    shutil.copytree(prefix, place)
    house.env["PATH"] = f"{place}/bin:" + house.env["PATH"]
    shop = house.project("shop")
    server, port = serve(house, listener, shop)
    pid = house.agent_pid()
    replace_program_under_clients(house, shop, pid)
    assert house.port(shop, "3000") == port
    server.kill()
    wait_until(lambda: [lease["service"] for lease in house.leases(shop)] == ["web"], "the server's lease ends under the new program")
    house.stop_agent()
    assert not house.socket.exists(), "its own socket it removes, also in its next image"


def test_a_replaced_program_takes_over_in_the_running_service(house, prefix):
    place = house.directory / "installed"
    shutil.copytree(prefix, place)
    units = place / "lib" / "systemd" / "user"
    for unit in units.iterdir():
        unit.write_text(unit.read_text().replace(str(prefix), str(place)))
    house.env["PATH"] = f"{place}/bin:" + house.env["PATH"]
    if why_not():
        pytest.skip(why_not())
    manager = UserManager(house, units)
    try:
        shop = house.project("shop")
        port = int(house.portctl("get", "main", cwd=shop).stdout)
        pid = manager.main_pid()
        replace_program_under_clients(house, shop, pid)
        assert (manager.main_pid(), manager.state(SERVICE)) == (pid, "active")
        assert house.port(shop, "main") == port
        house.stop_agent()
        assert house.socket.exists(), "the manager's socket stays"
        assert house.port(shop, "main") == port
    finally:
        manager.close()


def replace_program_under_clients(house, shop, pid):
    program = os.path.realpath(f"/proc/{pid}/exe")
    fresh = program + ".new"
    shutil.copy(program, fresh)
    os.rename(fresh, program)
    assert os.readlink(f"/proc/{pid}/exe").endswith(" (deleted)")
    inode = house.socket.stat().st_ino
    failures, done = [], threading.Event()

    def ask_on():
        while not done.is_set():
            asked = house.portctl("get", "web", cwd=shop)
            if asked.returncode != 0:
                failures.append(asked.stderr)
    clients = [threading.Thread(target=ask_on) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        os.kill(pid, signal.SIGUSR2)
        wait_until(lambda: os.readlink(f"/proc/{pid}/exe") == program, "the new program runs")
        rpc = Rpc(house)
        assert rpc.call("agent.status", {})["result"]["agent"]["pid"] == pid
        rpc.close()
    finally:
        done.set()
        for client in clients:
            client.join(PATIENCE)
    assert not failures
    assert house.agent_pids() == [pid]
    assert house.socket.stat().st_ino == inode, "the socket was never away"
