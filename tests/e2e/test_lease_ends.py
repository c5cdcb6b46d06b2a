"""A process lease ends with the last reference to its socket: not before, and at once."""

from house import PATIENCE, assert_active, fetch, is_alive, really_listens, wait_until

CLOSER = """
import socket, sys
server = socket.create_server(("127.0.0.1", 3000))
print("port", server.getsockname()[1])
sys.stdin.readline()
server.close()
print("closed")
sys.stdin.readline()
server = socket.create_server(("127.0.0.1", 3000))
print("again", server.getsockname()[1])
sys.stdin.readline()
"""

PARENT = """
import http.server, os, sys
server = http.server.HTTPServer(("127.0.0.1", 3000), http.server.SimpleHTTPRequestHandler)
print("port", server.server_address[1])
child = os.fork()
if child == 0:
    server.serve_forever()
print("child", child)
sys.stdin.readline()
"""

TWO_SOCKETS = """
import socket, sys
servers = [socket.create_server((host, 3000), family=family)
           for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6))]
print("ports", *(server.getsockname()[1] for server in servers))
for server in servers:
    sys.stdin.readline()
    server.close()
    print("closed")
sys.stdin.readline()
"""

NEVER_LISTENS = """
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", 3000))
print("bound", server.getsockname()[1])
sys.stdin.readline()
server.close()
print("closed")
sys.stdin.readline()
"""


def project(house, script):
    return house.project("shop", files={"script.py": script, "requirements.txt": "\n"})


def test_closing_the_socket_in_a_living_process_frees_the_lease(house):
    root = project(house, CLOSER)
    process = house.wrap("python3", "script.py", cwd=root)
    port = int(process.wait_for(r"^port (\d+)")[1])
    (lease,) = house.leases(root)
    assert_active(lease, port=port, asked=3000, root=root)
    assert lease["holder"]["pid"] == process.pid

    process.say("\n")
    process.wait_for("^closed")
    wait_until(lambda: house.leases(root) == [], "the lease ends", 2)
    assert process.running()

    process.say("\n")
    assert int(process.wait_for(r"^again (\d+)")[1]) == port
    (lease,) = house.leases(root)
    assert_active(lease, port=port, asked=3000, root=root)


def test_a_child_that_inherited_the_socket_keeps_the_lease_and_becomes_its_holder(house):
    root = project(house, PARENT)
    process = house.wrap("python3", "script.py", cwd=root)
    port = int(process.wait_for(r"^port (\d+)")[1])
    child = int(process.wait_for(r"^child (\d+)")[1])
    process.say("\n")
    # Not Process.wait(): the child keeps the pipes open.
    wait_until(lambda: not process.running(), "the parent ends")
    assert really_listens(child, port)
    assert fetch(port, "/content.txt") == "content of shop\n"

    def named_anew():
        leases = house.leases(root)
        assert [lease["port"] for lease in leases] == [port], leases
        return leases[0]["holder"] is not None and leases[0]["holder"]["pid"] == child and leases[0]

    assert_active(wait_until(named_anew, "the child is named as the holder", PATIENCE), port=port, asked=3000, root=root)
    process.kill()
    wait_until(lambda: not is_alive(child), "the child ends")
    wait_until(lambda: house.leases(root) == [], "the lease ends with the child", 2)


def test_two_sockets_of_one_server_share_the_port_and_the_lease_lives_until_both_are_closed(house):
    root = project(house, TWO_SOCKETS)
    process = house.wrap("python3", "script.py", cwd=root)
    match = process.wait_for(r"^ports (\d+) (\d+)")
    assert match[1] == match[2]
    port = int(match[1])
    process.say("\n")
    process.wait_for("^closed")
    (lease,) = house.leases(root)
    assert_active(lease, port=port, asked=3000, root=root)
    process.say("\n")
    process.wait_for("^closed", count=2)
    wait_until(lambda: house.leases(root) == [], "the lease ends", 2)


def test_a_socket_that_never_listened_leaves_no_claim(house):
    root = project(house, NEVER_LISTENS)
    process = house.wrap("python3", "script.py", cwd=root)
    port = int(process.wait_for(r"^bound (\d+)")[1])
    (lease,) = house.leases(root)
    assert (lease["port"], lease["state"]) == (port, "allocated")
    process.say("\n")
    process.wait_for("^closed")
    # It stays allocated to its process for 10 s at most (programs probe, close and bind again), and no longer.
    wait_until(lambda: house.leases(root) == [], "the lease ends", 15)
    assert process.running()
    other = house.project("blog", files={"script.py": CLOSER, "requirements.txt": "\n"})
    second = house.wrap("python3", "script.py", cwd=other)
    assert int(second.wait_for(r"^port (\d+)")[1]) == port


def test_a_program_that_is_started_again_the_moment_it_ended_has_its_port_again(house):
    """The kernel's word of a socket's end may come later than the next start."""
    root = house.project("shop", files={"script.py": 'import socket\nprint("port", socket.create_server(("127.0.0.1", 3000)).getsockname()[1])\n',
                                        "requirements.txt": "\n"})
    ends = [house.run("portwrap", "python3", "-S", "script.py", cwd=root) for _ in range(50)]
    assert [(end.stdout, end.stderr, end.returncode) for end in ends] == [("port 3000\n", "", 0)] * 50
