"""The main job: two unmodified copies of real development servers run at once under portwrap, answer with their own
content on ports of their own, and get the same ports again whichever starts first. `portctl list` is compared with the
kernel's view at every step."""

import os
import re
import signal
from dataclasses import dataclass

import pytest

from house import assert_active, assert_port_is_right, fetch, is_alive, is_listening, wait_until


@dataclass(frozen=True)
class Server:
    app: str | None
    command: tuple[str, ...]
    asked: int
    range_name: str
    ready: str
    path: str = "/"
    name: str | None = None  # what the manifest says; else the directory's name


SERVERS = {
    "express": Server("express", ("node", "server.js"), 3000, "node", r"^ready", name="express-app"),
    "express by npm": Server("express", ("npm", "start"), 3000, "node", r"^ready", name="express-app"),
    "vite": Server("vite", ("npm", "run", "dev"), 5173, "node", r"Local:", "/content.txt", "vite-app"),
    "vite --strictPort": Server("vite", ("npm", "run", "strict"), 5173, "node", r"Local:", "/content.txt", "vite-app"),
    "http.server": Server(None, ("python3", "-m", "http.server", "8000"), 8000, "static", r"^Serving HTTP", "/content.txt"),
    "flask run": Server("flask", ("flask", "run"), 5000, "python", r"Running on"),
    "flask with reloader": Server("flask", ("python3", "app.py"), 5000, "python", r"Debugger PIN"),
    "php": Server("php", ("php", "-S", "localhost:8000"), 8000, "php", r"Development Server .* started"),
}


class Copy:
    """One copy of a server in its directory."""

    def __init__(self, house, server, root):
        self.house, self.server, self.root = house, server, root
        self.process = None
        self.port = None

    def start(self, claimed=False):
        """`claimed`: another project has a claim on the requested port, so it is not free though nobody listens."""
        taken = claimed or is_listening(self.server.asked)
        sticky = self.port
        self.process = self.house.wrap(*self.server.command, cwd=self.root)
        self.process.wait_for(self.server.ready)
        self.port = self.house.port(self.root)
        if sticky is None:
            assert_port_is_right(self.port, self.server.asked, self.server.range_name, taken)
        else:
            assert self.port == sticky, "the port of the first start is given again"
        self.check()
        return self.port

    def check(self):
        """Answers with its own content, and the list says what is true."""
        assert fetch(self.port, self.server.path) == f"content of {self.root.name}\n"
        (lease,) = self.house.leases(self.root)
        assert_active(lease, port=self.port, asked=self.server.asked, root=self.root)
        assert lease["service"] == "main"
        assert lease["project"]["name"] == (self.server.name or self.root.name)
        if self.port == self.server.asked:
            assert "listens on" not in self.process.stderr
        else:
            self.process.wait_for(
                rf"^portwrap: {re.escape(lease['project']['name'])}/main listens on http://localhost:{self.port} "
                rf"\(asked for {self.server.asked}: .+\)$", "stderr")
        return lease

    def kill(self):
        self.process.kill()
        self.house_says_nothing_listens()

    def house_says_nothing_listens(self):
        wait_until(lambda: self.house.leases(self.root) == [], lambda: f"the lease ends: {self.house.leases(self.root)}", 2)
        assert self.house.portctl("port", cwd=self.root).returncode == 3


@pytest.fixture(params=["unrelated directories", "worktrees"])
def roots(request, house):
    """Makes two directories for copies of an app."""

    def make(app):
        if request.param == "worktrees":
            return house.worktrees("shop", app)
        return house.project("shop", app), house.project("blog", app)

    return make


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS.keys())
def test_two_copies_run_side_by_side_and_keep_their_ports(house, roots, server):
    first, second = (Copy(house, server, root) for root in roots(server.app))
    first.start()
    assert house.leases(second.root) == []
    second.start()
    assert first.port != second.port
    holder = first.check()["holder"]
    if first.port == server.asked:
        second.process.wait_for(rf"asked for {server.asked}: held by \S+/main, pid {holder['pid']}, ", "stderr")
    assert sorted(lease["port"] for lease in house.leases()) == sorted((first.port, second.port))

    second.kill()
    first.check()
    first.kill()
    assert house.leases() == []

    second.start()
    first.start()
    second.check()


@pytest.mark.parametrize("server", [SERVERS["express by npm"]], ids=["express by npm"])
def test_killing_only_the_server_process_frees_the_lease_at_once(house, roots, server):
    copy = Copy(house, server, roots(server.app)[0])
    copy.start()
    os.kill(house.leases(copy.root)[0]["holder"]["pid"], signal.SIGKILL)
    copy.house_says_nothing_listens()


def test_a_released_port_stays_with_its_project_though_nobody_listens(house):
    server = SERVERS["http.server"]
    first, second = (Copy(house, server, house.project(name)) for name in ("shop", "blog"))
    first.start()
    first.kill()
    second.start(claimed=True)
    assert second.port != first.port
    if first.port == server.asked:
        second.process.wait_for(rf"asked for {server.asked}: kept for shop/main, last used .+; portwrap -p {server.asked} takes it\)", "stderr")


def test_the_same_server_twice_in_one_directory_gets_two_ports(house):
    server = SERVERS["http.server"]
    root = house.project("shop")
    first = Copy(house, server, root)
    first.start()
    again = house.wrap(*server.command, cwd=root)
    again.wait_for(server.ready)
    leases = sorted(house.leases(root), key=lambda lease: lease["instance"])
    assert [lease["instance"] for lease in leases] == [0, 1]
    assert len({lease["port"] for lease in leases}) == 2
    for lease in leases:
        assert_active(lease, port=lease["port"], asked=server.asked, root=root)
        assert fetch(lease["port"], server.path) == "content of shop\n"
    again.wait_for(rf"^portwrap: shop/main listens on http://localhost:{leases[1]['port']} \(", "stderr")


def test_a_nodemon_restart_gets_the_same_port_with_a_new_process(house):
    server = Server("nodemon", ("npm", "run", "dev"), 3000, "node", r"^ready", name="nodemon-app")
    first, second = (Copy(house, server, house.project(name, "nodemon")) for name in ("shop", "blog"))
    first.start()
    second.start()
    for copy in (first, second):
        before = int(fetch(copy.port, "/pid"))
        assert house.leases(copy.root)[0]["holder"]["pid"] == before
        os.utime(copy.root / "server.js")
        copy.process.wait_for(server.ready, "stdout", count=2)
        after = int(fetch(copy.port, "/pid"))
        assert after != before
        assert not is_alive(before)
        assert house.port(copy.root) == copy.port
        assert copy.check()["holder"]["pid"] == after
