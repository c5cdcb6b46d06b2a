"""Connections to localhost go where the project's own server is: a front end never reaches a sibling's API by accident,
and "wait until the port answers" is not satisfied by somebody else's server."""

import os
import re
import shutil
import signal
import subprocess

import pytest

from house import RANGES, assert_active, wait_until

ASKED = 23000

SERVER = """
import os, socket, sys, threading
port = int(sys.argv[1]) if len(sys.argv) > 1 else 23000
server = socket.create_server(("127.0.0.1", port))
name = open("content.txt").read() if os.path.exists("content.txt") else os.getcwd()
print(f"ready {server.getsockname()[1]}")
def answer(client):
    client.sendall(name.encode())
    client.shutdown(socket.SHUT_WR)
    while client.recv(100):
        pass
    client.close()
def serve():
    while True:
        threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
sys.stdin.read()
"""

# Prints what is at the other end, or why there is nothing.
CLIENT = """
import errno, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
client.settimeout(10)
try:
    client.connect((host, port))
    print(f"{client.recv(100).decode().strip()} {client.getpeername()[1]}")
except OSError as error:
    print(errno.errorcode[error.errno])
"""

# The same, again for each line.
PATIENT = """
import errno, socket, sys
for line in sys.stdin:
    try:
        client = socket.create_connection(("127.0.0.1", int(line)), 10)
        print(f"{client.recv(100).decode().strip()} {client.getpeername()[1]}", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""

FILES = {"server.py": SERVER, "client.py": CLIENT, "patient.py": PATIENT, "requirements.txt": "\n"}


@pytest.fixture
def worktrees(house):
    return house.worktrees("shop", files=FILES)


def serve(house, root, *words, options=()):
    process = house.wrap(*options, "python3", str(root / "server.py"), *words, cwd=root)
    return process, int(process.wait_for(r"^ready (\d+)")[1])


def ask(house, root, port=ASKED, host="127.0.0.1", options=(), cwd=None, env=None):
    done = house.run("portwrap", *options, "python3", str(root / "client.py"), host, str(port), cwd=cwd or root, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::ffff:127.0.0.1"])
def test_each_worktree_reaches_its_own_server_by_the_number_that_the_code_says(house, host):
    main, fix = house.worktrees("shop", files={**FILES, "server.py": SERVER.replace('"127.0.0.1"', '"0.0.0.0"')})
    _, first = serve(house, main)
    _, second = serve(house, fix)
    assert first != second
    assert ask(house, main, host=host) == (f"content of shop {first}", "")
    assert ask(house, fix, host=host) == (f"content of shop-fix {second}", "")


def test_ipv6_loopback_is_remapped_too(house):
    server = SERVER.replace('("127.0.0.1", port)', '("::1", port), family=socket.AF_INET6')
    main, fix = house.worktrees("shop", files={**FILES, "server.py": server})
    serve(house, main)
    _, port = serve(house, fix)
    assert ask(house, fix, host="::1") == (f"content of shop-fix {port}", "")
    assert ask(house, fix, host="127.0.0.1")[0] == "ECONNREFUSED"


def test_a_siblings_server_is_refused_and_named_once_a_session(house, worktrees):
    main, fix = worktrees
    process, port = serve(house, main)
    assert port == ASKED
    said, stderr = ask(house, fix)
    assert said == "ECONNREFUSED"
    assert re.fullmatch(rf"portwrap: refused a connection of shop-fix's to localhost:{ASKED}: there listens shop/main in {re.escape(str(main))}, "
                        rf"pid {process.pid}, and .*\n", stderr), stderr
    script = f"for i in 1 2 3; do python3 client.py 127.0.0.1 {ASKED}; done"
    done = house.run("portwrap", "sh", "-c", script, cwd=fix)
    assert done.stdout.split() == ["ECONNREFUSED"] * 3
    assert done.stderr.count("portwrap:") == 1, done.stderr
    for quiet in (("portwrap", "-q"), ("env", "PORTWRAP_QUIET=1", "portwrap")):
        done = house.run(*quiet, "sh", "-c", script, cwd=fix)
        assert (done.stdout.split(), done.stderr) == (["ECONNREFUSED"] * 3, "")


@pytest.mark.parametrize("files", [{}, {".portwrap.json": f'{{"services": {{"web": {{"port": {ASKED}}}}}}}'}])
def test_a_client_in_a_session_of_its_own_reaches_the_server_and_takes_it_from_nobody(house, files):
    shop = house.project("shop", files={**FILES, **files})
    _, port = serve(house, shop)
    assert port == ASKED
    # A second terminal is offered the port of a second instance; nobody listens there.
    shell = house.wrap("sh", "-c", "read go; exec python3 client.py 127.0.0.1 23000", cwd=shop)
    assert ask(house, shop) == (f"content of shop {ASKED}", "")
    shell.say("go\n")
    assert shell.wait_for(r"^(content of shop 23000|E.*)$", "stdout")[1] == "content of shop 23000"


def test_a_configured_port_that_a_stranger_has_is_reached_while_the_own_server_is_not_there(house):
    shop = house.project("shop", files={**FILES, ".portwrap.json": f'{{"services": {{"web": {{"port": {ASKED}}}}}}}'})
    house.start("python3", str(shop / "server.py"), str(ASKED), cwd=shop).wait_for("ready")
    assert ask(house, shop)[0] == f"content of shop {ASKED}"


@pytest.mark.parametrize("how", ["get", "reserve", "hook"])
def test_a_port_that_was_got_by_name_is_found_by_the_number_that_the_program_asks_for(house, how):
    main = house.project("shop", files=FILES)
    house.git(main, "init", "-q", "-b", "main")
    house.git(main, "add", "-A")
    house.git(main, "commit", "-q", "-m", "A shop")
    if how == "hook":
        assert house.portctl("hooks", "install", cwd=main).returncode == 0
    serve(house, main)
    fix = house.home / "shop-fix"
    house.run("git", "worktree", "add", "-q", "-b", "fix", str(fix), cwd=main)
    if how != "hook":
        assert house.portctl(how, "main", cwd=fix).returncode == 0
    (lease,) = house.leases(cwd=fix)
    process, port = serve(house, fix)
    assert port == lease["port"] != ASKED
    process.wait_for(rf"asked for {ASKED}: held by shop/main", "stderr")
    assert ask(house, fix) == (f"content of shop {port}", "")
    assert house.portctl("port", str(ASKED), cwd=fix).stdout == f"{port}\n"
    assert house.portctl("get", "main", cwd=fix).stdout == f"{port}\n"


def test_a_port_that_was_got_by_name_is_the_number_s_once_its_program_asks_for_it(house):
    main, fix = house.worktrees("shop", files=FILES | {"server.py": SERVER.replace("23000", "5000")})
    got = int(house.portctl("get", "web", cwd=main).stdout)
    assert got == 5000
    process, port = serve(house, main)
    assert port == got
    (lease,) = house.leases(main)
    assert_active(lease, port=got, asked=got, root=main)
    assert lease["service"] == "web"
    assert house.port(main, str(got)) == got
    listed = house.portctl("list", cwd=main).stdout
    assert re.search(rf"^web +{got} +{got} +active", listed, re.MULTILINE), listed
    # A sibling's connection to the number means its own server, and there is none.
    answer, notice = ask(house, fix, got)
    assert answer == "ECONNREFUSED" and "shop" in notice
    assert int(house.portctl("get", "web", cwd=main).stdout) == got
    # The same after its end, for the next run, and with another agent.
    process.kill()
    wait_until(lambda: [lease["state"] for lease in house.leases(main)] == ["allocated"], "the program's end is seen")
    process, port = serve(house, main)
    assert port == got
    assert house.portctl("agent", "restart").returncode == 0
    (lease,) = house.leases(main)
    assert_active(lease, port=got, asked=got, root=main)
    assert ask(house, fix, got)[0] == "ECONNREFUSED"
    # Released, it is nobody's, and the next program's own.
    process.kill()
    wait_until(lambda: [lease["state"] for lease in house.leases(main)] == ["allocated"], "the program's end is seen")
    assert house.portctl("release", "web", cwd=main).returncode == 0
    assert house.leases(main) == []
    serve(house, main)
    (lease,) = house.leases(main)
    assert (lease["service"], lease["port"], lease["requested_port"]) == ("main", got, got)


def test_a_worker_that_outlives_its_session_never_reaches_a_sibling(house, worktrees):
    main, fix = worktrees
    serve(house, main)
    worker = "import os, signal\nsignal.sigwait([signal.SIGUSR1])\nos.execvp('python3', ['python3', 'client.py', '127.0.0.1', '23000'])\n"
    (fix / "worker.py").write_text("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n" + worker)
    shell = house.wrap("sh", "-c", "python3 worker.py > out.txt & echo worker $!", cwd=fix)
    pid = int(shell.wait_for(r"^worker (\d+)$", "stdout")[1])
    shell.wait()
    wait_until(lambda: "worker.py" in open(f"/proc/{pid}/cmdline").read(), "the worker runs")
    # Its session is closed for the agent, too, when another one of the project has been opened and closed.
    assert ask(house, fix)[0] == "ECONNREFUSED"
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the worker ends")
    assert (fix / "out.txt").read_text() == "ECONNREFUSED\n"


def test_a_sibling_is_refused_in_a_pid_namespace_of_ones_own(house, worktrees):
    sandbox = ["unshare", "-rpf", "--mount-proc"]
    if subprocess.run([*sandbox, "true"], capture_output=True).returncode != 0:
        pytest.skip("no namespaces here")
    main, fix = worktrees
    serve(house, main)
    done = house.run("portwrap", *sandbox, "python3", "client.py", "127.0.0.1", str(ASKED), cwd=fix)
    assert done.stdout == "ECONNREFUSED\n", done.stderr


def test_clones_and_copies_are_siblings_and_unrelated_projects_are_not(house, worktrees):
    main, _ = worktrees
    clone = house.home / "clone"
    house.git(house.home, "clone", "-q", str(main), str(clone))
    serve(house, main)
    assert ask(house, clone)[0] == "ECONNREFUSED"
    other = house.project("blog", files=FILES)
    house.git(other, "init", "-q")
    assert ask(house, other) == (f"content of shop {ASKED}", "")


def test_a_strangers_server_is_refused_where_the_project_has_a_port_of_its_own_for_the_number(house):
    shop, blog = (house.project(name, files=FILES) for name in ("shop", "blog"))
    for root in (shop, blog):
        house.git(root, "init", "-q")
    serve(house, shop)
    process, _ = serve(house, blog)
    process.kill()
    wait_until(lambda: house.leases(blog) == [], "the lease ends")
    said, stderr = ask(house, blog)
    assert said == "ECONNREFUSED"
    assert "there listens shop/main" in stderr


def test_a_server_outside_of_portwrap_is_reached(house, worktrees):
    """A database of the system, a tunnel, a container: also where the project once had the number itself."""
    main, _ = worktrees
    process, _ = serve(house, main)
    process.kill()
    wait_until(lambda: house.leases(main) == [], "the lease ends")
    (house.home / "content.txt").write_text("the system's")
    stranger = house.start("python3", str(main / "server.py"), cwd=house.home)
    stranger.wait_for("^ready")
    assert ask(house, main) == (f"the system's {ASKED}", "")


@pytest.mark.parametrize("way", ["--no-connect", ".portwrap.json"])
def test_it_can_be_switched_off(house, worktrees, way):
    main, fix = worktrees
    serve(house, main)
    options = ()
    if way == "--no-connect":
        options = ("--no-connect",)
    else:
        (fix / ".portwrap.json").write_text('{"connect": "off"}')
    assert ask(house, fix, options=options) == (f"content of shop {ASKED}", "")


def test_a_shared_service_is_open_to_siblings(house, worktrees):
    main, fix = worktrees
    for root in worktrees:
        (root / ".portwrap.json").write_text(
            '{"services": {"db": {"port": 23000, "kind": "database"}, "api": {"port": 23001, "shared": true},'
            '"web": {"port": 23002}}}')
    for port in (23000, 23001, 23002):
        serve(house, main, str(port))
    assert ask(house, fix, 23000) == ("content of shop 23000", "")
    assert ask(house, fix, 23001) == ("content of shop 23001", "")
    assert ask(house, fix, 23002)[0] == "ECONNREFUSED"


def test_the_own_session_comes_first_then_the_most_recent(house, worktrees):
    main, _ = worktrees
    script = "python3 server.py < gate & echo $!; read line; python3 client.py 127.0.0.1 23000; read line"
    subprocess.run(["mkfifo", str(main / "gate")], check=True)
    gate = os.open(main / "gate", os.O_RDWR)  # a writer that stays, so that the servers' input does not end
    first = house.wrap("sh", "-c", script, cwd=main)
    first_port = int(first.wait_for(r"^ready (\d+)")[1])
    second = house.wrap("sh", "-c", script, cwd=main)
    second_port = int(second.wait_for(r"^ready (\d+)")[1])
    assert {first_port, second_port} > {ASKED} or first_port == ASKED
    for process, port in ((first, first_port), (second, second_port)):
        process.say("\n")
        assert process.wait_for(r"^content of shop (\d+)")[1] == str(port)
    assert ask(house, main)[0] == f"content of shop {second_port}"
    os.close(gate)


def test_a_descendant_in_another_worktree_uses_that_ones_table(house, worktrees):
    main, fix = worktrees
    serve(house, main)
    _, second = serve(house, fix)
    nested = main / "nested"
    house.git(main, "worktree", "add", "-q", "-b", "nested", str(nested))
    for cwd, expected in ((fix, f"content of shop-fix {second}"), (main / "..", f"content of shop {ASKED}"), (nested, "ECONNREFUSED")):
        done = house.run("portwrap", "sh", "-c", f'cd "{cwd}" && python3 "{main}/client.py" 127.0.0.1 {ASKED}', cwd=main)
        assert done.stdout.strip() == expected, (cwd, done.stderr)


def test_an_environment_inherited_from_another_worktree_is_not_believed(house, worktrees):
    main, fix = worktrees
    serve(house, main)
    _, second = serve(house, fix)
    shell = house.wrap("sh", "-c", "env > inherited; read line", cwd=main)
    wait_until(lambda: (main / "inherited").exists() and "PORTWRAP_TABLE" in (main / "inherited").read_text(), "the environment is written")
    env = dict(line.split("=", 1) for line in (main / "inherited").read_text().splitlines() if "=" in line)
    # Not below the session, with its environment, in another worktree: as from an editor that was started there.
    done = house.run("python3", "client.py", "127.0.0.1", str(ASKED), cwd=fix, env=env)
    assert done.stdout.strip() == f"content of shop-fix {second}"
    assert shell.running()


def test_a_probe_finds_the_port_free_although_a_sibling_listens(house, worktrees):
    """Is it free? Connect, then bind."""
    main, fix = worktrees
    serve(house, main)
    probe = CLIENT + SERVER
    (fix / "probe.py").write_text(probe.replace("int(sys.argv[1]) if len(sys.argv) > 1 else 23000", "23000"))
    process = house.wrap("python3", "probe.py", "127.0.0.1", str(ASKED), cwd=fix)
    process.wait_for("^ECONNREFUSED")
    port = int(process.wait_for(r"^ready (\d+)")[1])
    assert port != ASKED and RANGES["python"][0] <= port <= RANGES["python"][1]
    (lease,) = house.leases(fix)
    assert_active(lease, port=port, asked=ASKED, root=fix)


def test_the_server_of_a_moved_port_is_reached_as_soon_as_it_listens_and_no_longer(house, worktrees):
    main, fix = worktrees
    serve(house, main)
    waiting = house.wrap("sh", "-c", f"until python3 client.py 127.0.0.1 {ASKED} 2>/dev/null | tee -a log | grep content; do :; done", cwd=fix)
    wait_until(lambda: (fix / "log").exists() and "ECONNREFUSED" in (fix / "log").read_text(), "the waiting begins")
    process, second = serve(house, fix)
    assert waiting.wait_for(r"^content of (\S+) (\d+)").groups() == ("shop-fix", str(second))
    assert waiting.wait() == 0
    process.kill()
    wait_until(lambda: house.leases(fix) == [], "the lease ends")
    assert ask(house, fix)[0] == "ECONNREFUSED"


def test_connections_go_on_right_without_an_agent_and_after_another_one(house, worktrees):
    main, fix = worktrees
    serve(house, main)
    _, second = serve(house, fix)
    client = house.wrap("sh", "-c", "while read line; do python3 client.py 127.0.0.1 23000; done", cwd=fix)
    for count, change in enumerate((lambda: None, house.kill_agent, house.start_agent), 1):
        change()
        client.say("\n")
        assert client.wait_for(r"^(.+)$", "stdout", count=count)[1] == f"content of shop-fix {second}"


def test_what_a_dead_agent_said_of_others_is_not_believed(house, worktrees):
    main, fix = worktrees
    process, _ = serve(house, main)
    client = house.wrap("sh", "-c", "while read line; do python3 client.py 127.0.0.1 23000; done", cwd=fix)
    client.say("\n")
    client.wait_for("^ECONNREFUSED")
    house.kill_agent()
    client.say("\n")
    client.wait_for("^content of shop 23000")
    assert process.running()


def test_a_bind_without_an_agent_gets_the_ports_of_last_time(house, worktrees):
    main, fix = worktrees
    serve(house, main)
    process, second = serve(house, fix)
    process.kill()
    wait_until(lambda: house.leases(fix) == [], "the lease ends")
    shell = house.wrap("sh", "-c", "echo up; read line; exec python3 server.py", cwd=fix)
    shell.wait_for("^up")
    for pid in house.agent_pids():
        os.kill(pid, signal.SIGSTOP)
    shell.say("\n")
    assert int(shell.wait_for(r"^ready (\d+)")[1]) == second


def test_fast_open_goes_the_same_way(house, worktrees):
    main, fix = worktrees
    code = """
import errno, socket, sys
for send in (lambda s, to: s.sendto(b"x", socket.MSG_FASTOPEN, to), lambda s, to: s.sendmsg([b"x"], [], socket.MSG_FASTOPEN, to)):
    s = socket.socket()
    try:
        send(s, ("127.0.0.1", 23000))
        port = s.getpeername()[1]
        print(s.recv(100).decode().strip(), port)
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
    serve(house, main)
    done = house.run("portwrap", "-q", "python3", "-c", code, cwd=fix)
    assert done.stdout.split() == ["ECONNREFUSED"] * 2, done.stderr
    _, second = serve(house, fix)
    done = house.run("portwrap", "python3", "-c", code, cwd=fix)
    assert done.stdout.splitlines() == [f"content of shop-fix {second}"] * 2, done.stderr


def test_non_blocking_connections_keep_their_semantics(house, worktrees):
    main, fix = worktrees
    code = """
import errno, select, socket
s = socket.socket()
s.setblocking(False)
code = s.connect_ex(("127.0.0.1", 23000))
if code == errno.EINPROGRESS:
    select.select([], [s], [], 10)
    code = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
print(errno.errorcode.get(code, "connected"), *([errno.errorcode[(s.connect_ex(("127.0.0.1", 23000)), s.connect_ex(("127.0.0.1", 23000)))[1]]] if code == 0 else []))
import asyncio
async def go():
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", 23000)
        print((await reader.read()).decode().strip())
    except OSError as error:
        print(errno.errorcode[error.errno])
asyncio.run(go())
"""
    serve(house, main)
    assert house.run("portwrap", "-q", "python3", "-c", code, cwd=fix).stdout.split() == ["ECONNREFUSED"] * 2
    serve(house, fix)
    assert house.run("portwrap", "python3", "-c", code, cwd=fix).stdout.splitlines() == ["connected EISCONN", "content of shop-fix"]


def test_node_and_curl_reach_their_own_and_take_a_refusal(house, worktrees):
    main, fix = worktrees
    script = ("require('http').get('http://localhost:23000', r => r.pipe(process.stdout)).on('error', e => "
              "console.log((e.errors ? e.errors[0] : e).code))")
    server = ("require('http').createServer((q, r) => r.end(process.cwd() + '\\n'))"
              ".listen(23000, function () { console.log('ready', this.address().port) })")
    house.wrap("node", "-e", server, cwd=main).wait_for("^ready")
    assert house.run("portwrap", "-q", "node", "-e", script, cwd=fix).stdout.strip() == "ECONNREFUSED"
    assert house.run("portwrap", "-q", "curl", "-s", "http://localhost:23000", cwd=fix).returncode == 7
    house.wrap("node", "-e", server, cwd=fix).wait_for("^ready")
    assert house.run("portwrap", "node", "-e", script, cwd=fix).stdout.strip() == str(fix)
    assert house.run("portwrap", "curl", "-s", "http://localhost:23000", cwd=fix).stdout.strip() == str(fix)
    assert house.run("portwrap", "curl", "-s", "http://localhost:23000", cwd=main).stdout.strip() == str(main)


def test_the_tables_are_private_of_fixed_size_and_reused(house, worktrees):
    main, _ = worktrees
    process, _ = serve(house, main)
    (table,) = (house.runtime / "portwrap" / "tables").iterdir()
    before = table.stat()
    assert (before.st_mode & 0o777, before.st_size, before.st_blocks * 512 >= 16384) == (0o600, 16384, True)
    assert (table.parent.stat().st_mode & 0o777) == 0o700
    process.kill()
    wait_until(lambda: house.leases(main) == [], "the lease ends")
    house.kill_agent()
    serve(house, main)
    after = table.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, 16384)


def test_a_damaged_table_is_replaced_and_harms_nobody(house, worktrees):
    main, fix = worktrees
    serve(house, main)
    _, second = serve(house, fix)
    house.stop_agent()
    for table in (house.runtime / "portwrap" / "tables").iterdir():
        table.unlink()
        table.write_bytes(b"garbage")
    house.start_agent()
    assert ask(house, fix)[0] == f"content of shop-fix {second}"


# Asks again for each line that it reads, in one process.
ASKING = "import sys\nfor line in sys.stdin:\n    exec(compile(open('client.py').read(), 'client.py', 'exec'))\n    sys.stdout.flush()\n"


@pytest.mark.parametrize("deleted", ["files", "directory", "runtime directory"])
def test_tables_that_somebody_deletes_are_made_anew_before_a_connection_reaches_another_project(house, deleted):
    other = house.project("other", files={**FILES, "requirements.txt": "other\n"})
    own = house.project("own", files={**FILES, "asking.py": ASKING})
    _, first = serve(house, other)
    _, port = serve(house, own)
    assert first == ASKED != port
    expected = f"content of own {port}"
    one = house.wrap("python3", "asking.py", "127.0.0.1", str(ASKED), cwd=own)
    each = house.wrap("sh", "-c", f"while read line; do python3 client.py 127.0.0.1 {ASKED}; done", cwd=own)

    def all_say():
        answers = [ask(house, own)[0]]
        for process in (one, each):
            lines = process.stdout.count("\n")
            process.say("again\n")
            wait_until(lambda process=process, lines=lines: process.stdout.count("\n") > lines, "an answer")
            answers.append(process.stdout.splitlines()[-1])
        return answers

    assert all_say() == [expected] * 3
    tables = house.runtime / "portwrap" / "tables"
    before = {path: path.open("rb") for path in tables.iterdir()}
    if deleted == "files":
        for path in before:
            path.unlink()
    else:
        shutil.rmtree(tables if deleted == "directory" else tables.parent, ignore_errors=True)

    def is_anew():
        return all(path.exists() and os.pread(old.fileno(), 8, 8) == bytes(8) for path, old in before.items())

    wait_until(is_anew, "the tables are there again, and the old ones are retired")
    for old in before.values():
        old.close()
    assert all_say() == [expected] * 3
    assert "error" not in [check["status"] for check in house.ask("doctor")["checks"]]


class Patient:
    """A program that runs on, and connects when it is told."""

    def __init__(self, house, root):
        self.process = house.wrap("python3", "patient.py", cwd=root)
        self.asked = 0

    def ask(self, port=ASKED):
        self.asked += 1
        self.process.say(f"{port}\n")
        return self.process.wait_for(r"^(content of .*|E[A-Z]+)$", "stdout", count=self.asked)[1]


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_program_that_runs_on_finds_its_server_after_the_agent_and_then_its_directory_have_gone(house, worktrees, how):
    """A logout that takes the runtime directory along, while programs run on."""
    servers = [serve(house, root) for root in worktrees]
    programs = [Patient(house, root) for root in worktrees]
    assert [program.ask() for program in programs] == [f"content of shop {servers[0][1]}", f"content of shop-fix {servers[1][1]}"]
    if how == "killed":
        house.kill_agent()
    else:
        house.stop_agent()
    shutil.rmtree(house.runtime / "portwrap")
    assert [program.ask() for program in programs] == [f"content of shop {servers[0][1]}", f"content of shop-fix {servers[1][1]}"]
    house.start_agent()
    assert [program.ask() for program in programs] == [f"content of shop {servers[0][1]}", f"content of shop-fix {servers[1][1]}"]
    for process, _ in servers:
        process.kill()
    wait_until(lambda: house.leases() == [], "the leases end")
    for number, root in enumerate(worktrees):
        assert serve(house, root, options=("-p", str(ASKED + 55 + number)))[1] == ASKED + 55 + number
    assert [program.ask() for program in programs] == [f"content of shop {ASKED + 55}", f"content of shop-fix {ASKED + 56}"]


@pytest.mark.parametrize("size", [0, 4096])
def test_tables_that_somebody_truncates_end_neither_the_agent_nor_programs(house, worktrees, size):
    servers = [serve(house, root) for root in worktrees]
    programs = [Patient(house, root) for root in worktrees]
    expected = [f"content of shop {servers[0][1]}", f"content of shop-fix {servers[1][1]}"]
    assert [program.ask() for program in programs] == expected
    agent = house.agent_pid()
    tables = list((house.runtime / "portwrap" / "tables").iterdir())
    whole = {table.stat().st_size for table in tables}
    for table in tables:
        os.truncate(table, size)
    wait_until(lambda: {table.stat().st_size for table in tables} == whole, "the tables are mended")
    assert len(house.leases()) == 2
    assert [program.ask() for program in programs] == expected
    # What is bound in the same moment is no trouble, either, nor is a table that goes after that.
    for table in tables:
        os.truncate(table, size)
    _, port = serve(house, worktrees[1])
    for table in tables:
        os.truncate(table, size)
        table.unlink()
    wait_until(lambda: all(table.exists() for table in tables), "the tables are made anew")
    assert len(house.leases()) == 3
    assert [program.ask() for program in programs] == [expected[0], f"content of shop-fix {port}"]
    assert house.agent_pid() == agent
