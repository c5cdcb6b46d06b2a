"""What real servers do with sockets, each habit with two projects that want one number: the second gets a port of its own,
keeps it through the habit, and the lease ends with its last socket."""

import os
import re
import subprocess

import pytest

from house import NODE_MODULES, RANGES, assert_active, fetch, wait_until

ASKED = 23100

HOLD = """
import socket, sys
server = socket.create_server(("", 23100), family=socket.AF_INET6, dualstack_ipv6=True)
print(f"ready {server.getsockname()[1]}")
sys.stdin.read()
"""


@pytest.fixture
def taken(house):
    """Another project listens on the number, on every address."""
    root = house.project("holder", files={"hold.py": HOLD, "requirements.txt": "\n"})
    process = house.wrap("python3", "hold.py", cwd=root)
    assert int(process.wait_for(r"^ready (\d+)")[1]) == ASKED
    return process


def start(house, script, *words, name="shop", env=None, files=None):
    root = house.home / name
    if not root.exists():
        house.project(name, files={"script.py": script, "requirements.txt": "\n", **(files or {})})
    return root, house.wrap(*words, "python3", "-u", "script.py", cwd=root, env=env)


def own_port(house, root, process, pattern=r"^ready (\d+)"):
    port = int(process.wait_for(pattern)[1])
    low, high = RANGES["python"]
    assert low <= port <= high, port
    (lease,) = house.leases(root)
    assert (lease["port"], lease["requested_port"], lease["state"]) == (port, ASKED, "active"), lease
    return port


def ended(house, root):
    wait_until(lambda: house.leases(root) == [], lambda: house.leases(root), 3)


# ---------------------------------------------------------------------------------------------------------------------
# node's cluster


CLUSTER = """
const cluster = require('cluster'), http = require('http');
cluster.schedulingPolicy = process.argv[2] === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR;
if (cluster.isPrimary) {
  cluster.fork(); cluster.fork();
  cluster.on('exit', (worker, code) => { console.log('died', code); });
} else {
  http.createServer((q, r) => r.end(`content of ${process.cwd()}\\n`)).on('error', e => { console.log('error', e.code); process.exit(9); })
    .listen(23200, function () { console.log('worker', this.address().port); });
}
"""


@pytest.mark.parametrize("policy", ["rr", "none"])
def test_two_node_clusters_with_one_hard_coded_port(house, policy):
    ports = []
    for name in ("shop", "blog"):
        root = house.project(name, files={"cluster.js": CLUSTER, "package.json": "{}"})
        process = house.wrap("node", "cluster.js", policy, cwd=root)
        process.wait_for(r"^worker 23200$", count=2)
        (lease,) = house.leases(root)
        assert (lease["requested_port"], lease["state"]) == (23200, "active")
        assert fetch(lease["port"]) == f"content of {root}\n"
        assert "died" not in process.stdout + process.stderr
        ports.append(lease["port"])
    assert ports[0] == 23200 != ports[1]


def test_getsockname_tells_the_truth_elsewhere_unless_the_config_says_otherwise(house, taken):
    script = HOLD.replace("print(", 'print("peer", socket.create_connection(("127.0.0.1", 23100)).getpeername()[1]); print(')
    root, process = start(house, script)
    port = own_port(house, root, process)
    assert int(process.wait_for(r"^peer (\d+)")[1]) == port
    root, process = start(house, script, name="told", files={
        ".portwrap.json": '{"services": {"web": {"port": 23100, "sockname": "requested"}}}'})
    assert int(process.wait_for(r"^ready (\d+)")[1]) == ASKED
    (lease,) = house.leases(root)
    assert lease["port"] != ASKED and lease["service"] == "web"


# ---------------------------------------------------------------------------------------------------------------------
# Numbers


def test_a_number_read_back_and_bound_again_stays(house, taken):
    root, process = start(house, """
import socket, sys
first = socket.create_server(("127.0.0.1", 23100))
port = first.getsockname()[1]
second = socket.create_server(("::1", port), family=socket.AF_INET6)
first.close()
third = socket.create_server(("127.0.0.1", port))
assert port == second.getsockname()[1] == third.getsockname()[1]
second.close()
again = socket.create_server(("::1", 23100), family=socket.AF_INET6)
assert again.getsockname()[1] == port
print("ready", port)
sys.stdin.read()
""")
    own_port(house, root, process)


def test_two_servers_of_one_command_never_get_one_number(house, taken):
    """The second has in its code what the first was moved to, and asks for it before that one listens."""
    server = """
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[1])))
print("bound", server.getsockname()[1], flush=True)
sys.stdin.readline()
server.listen()
print("listens", server.getsockname()[1], flush=True)
sys.stdin.readline()
"""
    root, process = start(house, """
import subprocess, sys
def run(name, port):
    return subprocess.Popen([sys.executable, name, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
first = run("first.py", 23100)
moved = int(first.stdout.readline().split()[1])
second = run("second.py", moved)
ports = [moved, int(second.stdout.readline().split()[1])]
for one in second, first:
    one.stdin.write("\\n")
    one.stdin.flush()
assert [int(one.stdout.readline().split()[1]) for one in (first, second)] == ports
print("ready", *ports)
sys.stdin.read()
""", files={"first.py": server, "second.py": server})
    first, second = process.wait_for(r"^ready (\d+) (\d+)$").groups()
    assert {(lease["port"], lease["requested_port"]) for lease in house.leases(root)} == {(int(first), ASKED), (int(second), int(first))}
    assert first != second


def test_twenty_programs_bind_0_close_and_bind_the_learnt_number(house):
    script = """
import socket, sys
probe = socket.socket()
probe.bind(("127.0.0.1", 0))
port = probe.getsockname()[1]
probe.close()
sys.stdin.readline()
server = socket.create_server(("127.0.0.1", port))
print("ready", port, server.getsockname()[1])
sys.stdin.read()
"""
    processes = [start(house, script)[1] for _ in range(20)]
    for process in processes:
        process.say("\n")
    ports = [process.wait_for(r"^ready (\d+) (\d+)").groups() for process in processes]
    assert all(learnt == bound for learnt, bound in ports)
    assert len({learnt for learnt, _ in ports}) == 20


def test_probes_of_every_kind_leave_the_server_its_port(house, taken):
    """As webpack-dev-server, vite and next do: bind and listen and close on every address, connect, then serve."""
    root, process = start(house, """
import errno, socket, sys
def probe(family, host, listen):
    with socket.socket(family) as s:
        if family == socket.AF_INET6 and host == "::1":
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((host, 23100))
            if listen: s.listen()
            return s.getsockname()[1]
        except OSError as error:
            return errno.errorcode[error.errno]
seen = set()
for _ in range(3):
    for listen in (False, True):
        for i in range(1, 20):
            seen.add(probe(socket.AF_INET, f"127.0.0.{i}", listen))
        for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            seen.add(probe(family, host, listen))
assert probe(socket.AF_INET6, "fe80::1", True) == "EINVAL"
assert probe(socket.AF_INET, "192.0.2.1", True) == "EADDRNOTAVAIL"
with socket.socket() as s:
    assert s.connect_ex(("127.0.0.1", 23100)) == errno.ECONNREFUSED
server = socket.create_server(("", 23100))
seen.add(server.getsockname()[1])
print("ready " + " ".join(map(str, seen)))
sys.stdin.read()
""")
    assert re.fullmatch(r"ready \d+", process.wait_for(r"^ready .*$")[0])
    own_port(house, root, process)
    assert process.stderr.count("portwrap:") == 1, process.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Sockets and processes


def test_so_reuseport_is_shared_inside_of_a_session_and_not_with_strangers(house):
    script = """
import os, socket, sys
def serve():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", 23100))
    s.listen()
    return s
first = serve()
read, write = os.pipe()
if os.fork() == 0:
    second = serve()
    os.write(write, str(second.getsockname()[1]).encode())
    os._exit(sys.stdin.read() != "")
assert int(os.read(read, 99)) == first.getsockname()[1]
print("ready", first.getsockname()[1])
sys.stdin.read()
"""
    ports = []
    for name in ("shop", "blog"):
        root, process = start(house, script, name=name)
        ports.append(int(process.wait_for(r"^ready (\d+)")[1]))
        assert len(house.leases(root)) == 1
    assert ports[0] == ASKED != ports[1]


@pytest.mark.parametrize("how", ["fork", "exec", "thread", "grandchild"])
def test_listen_in_another_process_or_thread_than_bind(house, taken, how):
    listen = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.listen(); s.listen(); print('ready', s.getsockname()[1]); sys.stdin.read()"
    root, process = start(house, f"""
import os, socket, sys, threading
s = socket.socket()
s.bind(("127.0.0.1", 23100))
os.set_inheritable(s.fileno(), True)
def serve():
    s.listen()
    s.listen()
    print("ready", s.getsockname()[1])
    sys.stdin.read()
how = "{how}"
if how == "fork" and os.fork() != 0:
    os.wait()
elif how == "exec":
    os.execvp("python3", ["python3", "-uc", {listen!r}, str(s.fileno())])
elif how == "thread":
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
elif how == "grandchild":
    import subprocess
    subprocess.run(["sh", "-c", "python3 -uc \\"$0\\" $1; true", {listen!r}, str(s.fileno())], close_fds=False)
else:
    serve()
""")
    own_port(house, root, process)
    process.close_stdin()
    process.wait()
    ended(house, root)


DAEMON = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", 23100))
if os.fork() != 0: os._exit(0)
os.setsid()
if os.fork() != 0: os._exit(0)
os.chdir("/")
open(sys.argv[1] if len(sys.argv) > 1 else os.environ["HERE"] + "/pid", "w").write(str(os.getpid()))
print(f"ready {server.getsockname()[1]}")
for fd in (0, 1, 2): os.close(fd)
import time
while True: time.sleep(1000)
"""


def test_a_daemonised_server_keeps_its_lease_and_the_next_start_finds_it(house, taken):
    root, process = start(house, DAEMON, env={"HERE": str(house.home)})
    port = int(process.wait_for(r"^ready (\d+)")[1])
    assert process.wait() == 0
    daemon = int((house.home / "pid").read_text())
    (lease,) = house.leases(root)
    assert_active(lease, port=port, asked=ASKED, root=root)
    assert lease["holder"]["pid"] == daemon
    other = house.wrap("python3", "-uc", HOLD, cwd=root)
    assert int(other.wait_for(r"^ready (\d+)")[1]) not in (port, ASKED)
    os.kill(daemon, 9)
    wait_until(lambda: [entry["port"] for entry in house.leases(root)] != [port] and port not in [e["port"] for e in house.leases(root)], "the lease ends", 3)


OVERWRITE = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <stdlib.h>
extern char **environ;
/* As programs do that show a title: arguments and environment are one block of memory. */
int main(int argc, char **argv) {
    (void)argc;
    char *end = argv[0];
    for (char **e = environ; *e; ++e) { end = *e + strlen(*e) + 1; }
    char *words[64]; int n = 0;
    for (char **a = argv + 1; *a && n < 63; ++a) { words[n++] = strdup(*a); }
    words[n] = NULL;
    char *path = strdup(getenv("PATH"));
    char *preload = strdup(getenv("LD_PRELOAD"));
    memset(argv[0], 'x', (size_t)(end - argv[0] - 1));
    static char p[8192], l[8192];
    snprintf(p, sizeof p, "PATH=%s", path);
    snprintf(l, sizeof l, "LD_PRELOAD=%s", preload);
    char *clean[] = {p, l, NULL};
    if (vfork() == 0) { execvpe(words[0], words, clean); _exit(127); }
    pause();
    return 0;
}
"""


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_a_scrubbed_environment_is_found_in_the_ancestors(house, taken, levels):
    root = house.project("shop", files={"script.py": HOLD, "requirements.txt": "\n"})
    words = ["sh", "-c", 'env -i PATH="$PATH" LD_PRELOAD="$LD_PRELOAD" "$@"; true', "sh"]
    for _ in range(levels):
        words += ["sh", "-c", '"$@"; true', "sh"]
    process = house.wrap(*words, "python3", "-u", "script.py", cwd=root)
    port = own_port(house, root, process)
    assert port != ASKED


def test_an_overwritten_environment_of_the_parent_does_not_lose_the_session(house, taken, tmp_path):
    (tmp_path / "overwrite.c").write_text("#define _GNU_SOURCE\n" + OVERWRITE)
    subprocess.run(["cc", "-O1", "-o", str(tmp_path / "overwrite"), str(tmp_path / "overwrite.c")], check=True)
    root = house.project("shop", files={"script.py": HOLD, "requirements.txt": "\n"})
    process = house.wrap("sh", "-c", '"$@"; true', "sh", str(tmp_path / "overwrite"), "python3", "-u", "script.py", cwd=root)
    own_port(house, root, process)
    assert process.stderr.count("listens on") == 1, "the session's line is written, so the session was found"


def test_a_server_that_drops_root_before_it_binds_runs_unmanaged(house, taken):
    if os.geteuid() != 0:
        pytest.skip("only root can drop root")
    root, process = start(house, """
import os, socket
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
server = socket.create_server(("127.0.0.1", 23101))
print(f"ready {server.getsockname()[1]}")
""")
    process.wait_for("^ready 23101$")
    assert process.wait() == 0


def can_unshare(*options):
    return subprocess.run(["unshare", *options, "true"], capture_output=True).returncode == 0


def test_another_network_namespace_is_left_alone(house, taken):
    if not can_unshare("-rn"):
        pytest.skip("no network namespaces here")
    root, process = start(house, """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.create_server(("127.0.0.1", 23100))
client = socket.create_connection(("127.0.0.1", 23100))
print("ready", server.getsockname()[1], client.getpeername()[1])
sys.stdin.read()
""", "unshare", "-rn")
    process.wait_for(r"^ready 23100 23100$")
    assert house.leases(root) == []


def test_a_pid_namespace_of_its_own_is_served(house, taken):
    """The agent sees the process under another number; its session is found all the same."""
    if not can_unshare("-rpf", "--mount-proc"):
        pytest.skip("no pid namespaces here")
    root, process = start(house, HOLD, "unshare", "-rpf", "--mount-proc")
    own_port(house, root, process)


def test_a_port_variable_of_another_session_is_not_the_users(house):
    files = {"server.js": "require('http').createServer((q, r) => r.end('hi')).listen(process.env.PORT || 23300, "
                          "function () { console.log('ready', this.address().port, process.env.PORT) })",
             "package.json": '{"scripts": {"dev": "PORT=${PORT:-23300} node server.js", "plain": "node server.js"}}'}
    shop, blog = (house.project(name, files=files) for name in ("shop", "blog"))
    # An editor that was started by portwrap with a port of its own, and a terminal in it.
    nested = f'cd "{blog}" && portwrap npm run -s $0'
    dev = house.wrap("-p", "23301", "sh", "-c", nested, "dev", cwd=shop)
    port, variable = dev.wait_for(r"^ready (\d+) (\S+)").groups()
    assert port == variable != "23301"
    plain = house.wrap("-p", "23302", "sh", "-c", nested, "plain", cwd=shop)
    assert plain.wait_for(r"^ready (\d+) (\S+)")[2] == "undefined"
    kept = house.wrap("-p", "23303", "sh", "-c", "portwrap npm run -s plain", cwd=shop)
    assert kept.wait_for(r"^ready (\d+) (\S+)").groups() == ("23303", "23303")
    users = house.wrap("-p", "23304", "sh", "-c", f'cd "{blog}" && PORT=23305 portwrap npm run -s plain', cwd=shop)
    assert users.wait_for(r"^ready (\d+) (\S+)").groups() == ("23305", "23305")


TURBO = NODE_MODULES / "@turbo" / "linux-64" / "bin" / "turbo"


@pytest.mark.skipif(not TURBO.exists(), reason="turbo is not installed in tests/servers")
def test_turbo_in_strict_mode_drops_every_variable_and_nothing_is_lost(house):
    server = ("require('http').createServer((q, r) => r.end(process.cwd())).listen(23400, function () "
              "{ console.log('serves', this.address().port, process.env.PORTWRAP_RUNTIME) })")
    ports = []
    for name in ("shop", "blog"):
        root = house.project(name, files={
            "package.json": f'{{"name": "{name}", "packageManager": "npm@10.0.0", "workspaces": ["apps/*"]}}',
            "turbo.json": '{"tasks": {"dev": {"cache": false, "persistent": true}}}',
            "package-lock.json": f'{{"name": "{name}", "lockfileVersion": 3, "packages": {{"": {{"name": "{name}", "workspaces": ["apps/*"]}}, '
                                 '"apps/web": {"name": "web"}, "node_modules/web": {"resolved": "apps/web", "link": true}}}',
            "apps/web/package.json": '{"name": "web", "scripts": {"dev": "node server.js"}}', "apps/web/server.js": server})
        house.git(root, "init", "-q")
        process = house.wrap(str(TURBO), "run", "dev", "--ui=stream", cwd=root, env={"TURBO_TELEMETRY_DISABLED": "1", "DO_NOT_TRACK": "1"})
        port, variable = process.wait_for(r"serves (\d+) (\S+)").groups()
        assert variable == "undefined", "strict mode drops what it does not know"
        (lease,) = house.leases(root)
        assert (lease["port"], lease["requested_port"], lease["service"]) == (int(port), 23400, "apps/web")
        assert fetch(int(port)) == str(root / "apps/web")
        ports.append(int(port))
    assert ports[0] == 23400 != ports[1]


# ---------------------------------------------------------------------------------------------------------------------
# UDP


UDP = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 23100))
print("ready", s.getsockname()[1])
sys.stdin.readline()
s.close()
print("closed")
sys.stdin.read()
"""


def test_udp_ports_are_moved_on_conflict_and_the_lease_ends_with_the_socket(house):
    ports = []
    for name in ("shop", "blog"):
        root, process = start(house, UDP, name=name)
        ports.append(int(process.wait_for(r"^ready (\d+)")[1]))
        (lease,) = house.leases(root)
        assert (lease["port"], lease["protocol"], lease["state"], lease["requested_port"]) == (ports[-1], "udp", "active", ASKED)
    assert ports[0] == ASKED and ports[1] in range(*RANGES["python"])
    process.wait_for(rf"listens on localhost:{ports[1]}/udp \(asked for {ASKED}", "stderr")
    process.say("\n")
    process.wait_for("^closed")
    ended(house, root)
    assert start(house, UDP, name="blog")[1].wait_for(r"^ready (\d+)")[1] == str(ports[1])


SHARED_UDP = """
import socket, sys
def udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", 23100))
    return s
tcp = [socket.create_server(("127.0.0.1", 23100))] if sys.argv[1:] else []
sockets = tcp + [udp() for _ in range(3)]
print("ready", *[s.getsockname()[1] for s in sockets])
sys.stdin.read()
"""


def test_udp_sockets_that_share_a_number_stay_together_beside_the_program_s_tcp_server(house):
    """As a server of HTTP/3 has them, one for each thread."""
    root = house.project("shop", files={"script.py": SHARED_UDP, "requirements.txt": "\n"})
    process = house.wrap("python3", "-u", "script.py", "tcp", cwd=root)
    assert process.wait_for(r"^ready ((?:\d+ ){3}\d+)")[1].split() == [str(ASKED)] * 4
    (lease,) = house.leases(root)
    assert (lease["port"], lease["protocol"]) == (ASKED, "tcp")
    process.kill()
    ended(house, root)
    # But not with a stranger's.
    stranger = house.start("python3", "-u", "-c", SHARED_UDP, cwd=house.home)
    stranger.wait_for("^ready")
    ports = house.wrap("python3", "-u", "script.py", "tcp", cwd=root).wait_for(r"^ready ((?:\d+ ){3}\d+)")[1].split()
    assert ports[0] == str(ASKED) and str(ASKED) not in ports[1:]


@pytest.mark.parametrize("option", ["SO_REUSEADDR", "SO_REUSEPORT"])
def test_udp_sockets_that_mean_to_share_a_number_share_it(house, option):
    sharing = UDP.replace("s.bind", f"s.setsockopt(socket.SOL_SOCKET, socket.{option}, 1)\ns.bind")
    for name in ("shop", "shop", "blog"):
        start(house, sharing, name=name)[1].wait_for(rf"^ready {ASKED}$")


def test_a_server_with_very_many_sockets_has_one_small_lease(house):
    root, process = start(house, """
import socket, sys
made = []
for _ in range(300):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("127.0.0.1", 23100))
    made.append(s)
print("ready", *{one.getsockname()[1] for one in made})
sys.stdin.readline()
""")
    process.wait_for(rf"^ready {ASKED}$")
    (lease,) = house.leases(root)
    assert (lease["port"], lease["state"]) == (ASKED, "active")
    assert sum(path.stat().st_size for path in house.registry.glob("*.jsonl")) < 1 << 20
    process.say("\n")
    ended(house, root)


def test_a_connected_udp_server_ends_with_its_socket(house):
    root, process = start(house, UDP.replace('print("ready"', 's.connect(("127.0.0.1", 9))\nprint("ready"'))
    process.wait_for(rf"^ready {ASKED}")
    assert [lease["state"] for lease in house.leases(root)] == ["active"]
    process.say("\n")
    process.wait_for("^closed")
    ended(house, root)


def test_a_daemonised_udp_server_keeps_its_lease_and_is_its_holder(house, taken):
    root, process = start(house, DAEMON.replace('socket.create_server(("127.0.0.1", 23100))', "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
                                                'server.bind(("127.0.0.1", 23100))'), env={"HERE": str(house.home)})
    port = int(process.wait_for(r"^ready (\d+)")[1])
    assert process.wait() == 0
    daemon = int((house.home / "pid").read_text())
    (lease,) = house.leases(root)
    assert (lease["port"], lease["protocol"], lease["state"], lease["holder"]["pid"]) == (port, "udp", "active", daemon)
    os.kill(daemon, 9)
    ended(house, root)


def test_udp_sockets_without_a_number_and_of_meeting_points_are_left_alone(house):
    root, process = start(house, """
import socket
for port, reuse in ((0, False), (5353, True), (1900, True), (40123, False)):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if reuse: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    assert port == 0 or s.getsockname()[1] == port
    print("bound")
import sys
sys.stdin.read()
""")
    process.wait_for("^bound", count=4)
    assert house.leases(root) == []


@pytest.mark.parametrize("order", ["tcp udp", "udp tcp"])
def test_tcp_and_udp_of_one_number_stay_together(house, order):
    script = f"""
import socket, sys
sockets = {{}}
for kind in "{order}".split():
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == "tcp")
    s.bind(("127.0.0.1", 23100))
    if kind == "tcp": s.listen()
    sockets[kind] = s
assert len({{s.getsockname()[1] for s in sockets.values()}}) == 1
print("ready", s.getsockname()[1])
for kind in "{order}".split():
    sys.stdin.readline()
    sockets[kind].close()
    print("closed", kind)
sys.stdin.read()
"""
    first, one = start(house, script)
    one.wait_for(rf"^ready {ASKED}$")
    root, two = start(house, script, name="blog")
    port = int(two.wait_for(r"^ready (\d+)")[1])
    assert port != ASKED
    (lease,) = house.leases(root)
    assert (lease["port"], lease["protocol"], lease["state"]) == (port, "tcp", "active")
    two.say("\n")
    two.wait_for("^closed")
    (lease,) = house.leases(root)
    assert (lease["port"], lease["state"]) == (port, "active")
    two.say("\n")
    two.wait_for("^closed", count=2)
    ended(house, root)
