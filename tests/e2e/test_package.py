"""The packages: what cpack makes is installed, used, upgraded under running agents and removed, with the real dpkg in a root
file system of our own (throwaway_root.py); and the tarball, unpacked anywhere."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import user_manager
from house import House, wait_until
from throwaway_root import ThrowawayRoot, why_not

NEXT_VERSION = "0.1.9"
PACKED = ("usr/bin/portwrap", "usr/bin/portctl", "usr/bin/portwrap-agent")


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Debian's package, the same as a later version, and the tarball."""
    build = os.environ.get("PORTWRAP_BUILD", "")
    for need in ("cpack", "dpkg-deb", "dpkg-shlibdeps", "fakeroot"):
        if not shutil.which(need):
            pytest.skip(f"no {need}")
    if not os.path.exists(f"{build}/CPackConfig.cmake"):
        pytest.skip("PORTWRAP_BUILD names no build directory")
    out = tmp_path_factory.mktemp("packages")
    # A shared umask must not show in the package.
    done = subprocess.run(["sh", "-c", 'umask 027; exec cpack --config "$0/CPackConfig.cmake" -B "$1"', build, out], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (debian,), (tarball,) = out.glob("*.deb"), out.glob("*.tar.gz")

    # What the next version looks like to dpkg and to clients, without compiling everything once more.
    tree = out / "next"
    subprocess.run(["dpkg-deb", "-R", debian, tree], check=True)
    control = tree / "DEBIAN" / "control"
    version = re.search(r"^Version: (.*)$", control.read_text(), re.M)[1]
    control.write_text(control.read_text().replace(f"Version: {version}", f"Version: {NEXT_VERSION}"))
    for name in PACKED:
        program = tree / name
        bytes_before = program.read_bytes()
        assert version.encode() in bytes_before, f"{name} knows its version"
        program.write_bytes(bytes_before.replace(version.encode(), NEXT_VERSION.encode()))
    later = out / "later.deb"
    subprocess.run(["fakeroot", "dpkg-deb", "-b", tree, later], check=True, capture_output=True)
    return {"deb": debian, "later": later, "tarball": tarball, "version": version}


@pytest.fixture
def root(house):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    (house.directory / "root").mkdir()
    throwaway = ThrowawayRoot(house.directory / "root")
    yield throwaway
    throwaway.close()


def install(root, package):
    root.put(package, "/tmp/portwrap.deb")
    root.check("dpkg", "-i", "/tmp/portwrap.deb")


def agent(root):
    return json.loads(root.check("portctl", "agent", "status", "--json", user=True))["agent"]


def leases(root, cwd):
    return [(lease["service"], lease["port"], lease["state"]) for lease in json.loads(root.check("portctl", "list", "--json", user=True, cwd=cwd))["leases"]]


def project(root, name):
    place = f"{root.home}/{name}"
    root.check("mkdir", place, user=True)
    root.check("sh", "-c", f"echo '{{}}' > {place}/.portwrap.json; echo 'content of {name}' > {place}/index.html", user=True)
    return place


def serve(root, cwd):
    """A server that insists on port 8000, and the port that it has."""
    server = root.start("portwrap", "python3", "-m", "http.server", "8000", cwd=cwd)
    wait_until(lambda: server.poll() is not None or "active" in [state for _, _, state in leases(root, cwd)], "the server listens")
    assert server.poll() is None, server.stdout.read()
    ((_, port, _),) = leases(root, cwd)
    answer = root.check("python3", "-c", f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/').read().decode())", user=True)
    assert f"content of {os.path.basename(cwd)}" in answer
    return server, port


def test_the_debian_package_is_made_by_the_rules(packages):
    names = subprocess.run(["dpkg-deb", "-c", packages["deb"]], check=True, capture_output=True, text=True).stdout.splitlines()
    files = {line.split(maxsplit=5)[5].removeprefix("./"): line for line in names}
    for name in (*PACKED, "usr/lib/portwrap/libportwrap.so", "usr/lib/systemd/user/portwrap-agent.socket", "usr/lib/systemd/user/portwrap-agent.service",
                 "usr/share/doc/portwrap/copyright", "usr/share/doc/portwrap/changelog.gz", "usr/share/doc/portwrap/README.md",
                 "usr/share/doc/portwrap/docs/protocol.md", "usr/share/man/man1/portctl.1.gz", "usr/share/man/man8/portwrap-agent.8.gz",
                 "usr/share/bash-completion/completions/portctl", "usr/share/fish/vendor_completions.d/portctl.fish",
                 "usr/share/zsh/vendor-completions/_portctl"):
        assert name in files, sorted(files)
    for name, line in files.items():
        assert "root/root" in line, line
        assert name.startswith("usr/") or name == "", "everything is below /usr"
        expected = "drwxr-xr-x" if name.endswith("/") or name == "" else "-rwxr-xr-x" if name.startswith(("usr/bin/", "usr/share/doc/portwrap/docs/examples/")) else "-rw-r--r--"
        assert line.startswith(expected), line
        if name in PACKED[:2]:
            assert int(line.split()[2]) < 2_000_000, f"{name} stays small"
    unit = subprocess.run(["sh", "-c", f"dpkg-deb --fsys-tarfile '{packages['deb']}' | tar -xO ./usr/lib/systemd/user/portwrap-agent.service"],
                          check=True, capture_output=True, text=True).stdout
    assert "\nExecStart=/usr/bin/portwrap-agent\n" in unit


def test_lintian_has_nothing_to_say(packages):
    if not shutil.which("lintian"):
        pytest.skip("no lintian")
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error", "--no-tag-display-limit", packages["deb"]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("^[EW]: ", done.stdout, re.M), done.stdout


def test_installed_used_upgraded_and_removed(root, packages):
    before = root.files()
    install(root, packages["deb"])
    assert root.check("portctl", "--version").split() == ["portctl", packages["version"]]
    shop, blog = project(root, "shop"), project(root, "blog")
    server, port = serve(root, shop)
    other, second = serve(root, blog)
    assert port != second
    web = int(root.check("portctl", "get", "web", user=True, cwd=shop))
    was = leases(root, shop)
    old = agent(root)

    install(root, packages["later"])
    new = agent(root)
    assert (old["version"], new["version"]) == (packages["version"], NEXT_VERSION)
    assert new["pid"] == old["pid"], "the agent went on as the new program"
    assert leases(root, shop) == was
    other.kill()
    root.check("sh", "-c", f"kill $(portctl list --json -C {blog} | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"leases\"][0][\"holder\"][\"pid\"])')", user=True)
    wait_until(lambda: leases(root, blog) == [], "a lease ends under the new agent, which never saw it begin")

    root.check("dpkg", "-r", "portwrap")
    gone = f"import sys, os; sys.exit(os.path.exists('/proc/{new['pid']}'))"
    wait_until(lambda: root.run("python3", "-c", gone).returncode == 0, "the agent ends with its package")
    assert server.poll() is None, "the server does not"
    root.check("dpkg", "-P", "portwrap")
    # The overlay shows a directory that something was made in and removed from; files are what counts, and names.
    bookkeeping = re.compile(r"\./(var/(lib/(dpkg|systemd|apt)|log|cache)|etc/ld\.so\.cache|home|tmp|run)(/|$)")
    left = {path for path in root.files() - before if not bookkeeping.match(path)}
    assert not [path for path in left if "portwrap" in path], left
    assert not [path for path in left if not root.is_directory(path)], left

    # The registry is the user's: installed again, everything is where it was.
    assert root.check("test", "-s", f"{root.home}/.local/state/portwrap/ports.json") == ""
    install(root, packages["deb"])
    assert int(root.check("portctl", "port", "web", user=True, cwd=shop)) == web
    assert ("main", port, "active") in leases(root, shop), "and the server that ran all the time is known again"


def test_removed_leaves_nothing_with_systemd_but_an_administrators_word(root, packages):
    def known_to_systemd():
        return {path for path in root.files() if "portwrap" in path and path.startswith(("./etc/", "./var/lib/systemd/"))}
    link = "./etc/systemd/user/sockets.target.wants/portwrap-agent.socket"
    assert known_to_systemd() == set()
    install(root, packages["deb"])
    assert link in known_to_systemd()
    root.check("dpkg", "-r", "portwrap")
    assert known_to_systemd() == set(), "neither an enabled unit that is not there nor a mask"
    install(root, packages["deb"])
    assert link in known_to_systemd()

    root.check("rm", "/" + link)  # systemctl --global disable
    root.check("dpkg", "-r", "portwrap")
    install(root, packages["deb"])
    assert link not in known_to_systemd(), "still disabled"
    root.check("dpkg", "-P", "portwrap")
    assert known_to_systemd() == set()
    install(root, packages["deb"])
    assert link in known_to_systemd(), "forgotten when it was purged"


def test_installed_where_users_have_their_own_systemd(root, packages):
    reason = user_manager.why_not()
    if reason:
        pytest.skip(reason)
    install(root, packages["deb"])
    root.start_manager()
    assert root.check("systemctl", "--user", "is-active", "portwrap-agent.socket", user=True) == "active\n", "enabled for every user"
    assert root.run("portctl", "agent", "status", user=True).returncode == 69, "and nothing runs until it is needed"
    shop = project(root, "shop")
    server, port = serve(root, shop)
    assert root.check("systemctl", "--user", "is-active", "portwrap-agent.service", user=True) == "active\n"
    old = agent(root)
    was = leases(root, shop)

    install(root, packages["later"])
    new = agent(root)
    assert (new["pid"], new["version"]) == (old["pid"], NEXT_VERSION)
    assert leases(root, shop) == was
    assert root.check("systemctl", "--user", "show", "--value", "-p", "MainPID", "portwrap-agent.service", user=True).strip() == str(new["pid"])
    assert root.check("portctl", "agent", "restart", user=True)
    assert agent(root)["pid"] != new["pid"]
    assert leases(root, shop) == was
    assert server.poll() is None


def test_the_tarball_works_wherever_it_is_unpacked(packages, listener):
    place = Path(tempfile.mkdtemp(prefix="pw-", dir="/tmp"))
    try:
        for name in ("a directory with ü and spaces", "another one"):
            (place / name).mkdir()
            subprocess.run(["tar", "-xzf", packages["tarball"], "-C", place / name, "--strip-components=1"], check=True)
            assert (place / name / "share" / "doc" / "portwrap" / "LICENSE").exists()
            assert not list((place / name).rglob("*.service")), "units cannot know where they are"
        house = House(tempfile.mkdtemp(prefix="pw-", dir="/tmp"), place / "a directory with ü and spaces")
        try:
            shop, blog = house.project("shop"), house.project("blog")
            first = house.wrap(listener, "bind", "3000", cwd=shop)
            port = int(first.wait_for(r"^\d+ (\d+)$")[1])
            second = house.wrap(listener, "bind", "3000", cwd=blog)
            assert port != int(second.wait_for(r"^\d+ (\d+)$")[1])
            # Moved while its agent runs: the agent stays, the programs find each other at their new place.
            os.rename(house.prefix, place / "moved")
            house.env["PATH"] = house.env["PATH"].replace(str(house.prefix), str(place / "moved"))
            assert house.port(shop) == port
            assert house.portctl("agent", "restart").returncode == 0
            assert os.path.realpath(f"/proc/{house.agent_pid()}/exe").startswith(str(place / "moved"))
            assert house.port(shop) == port
        finally:
            house.close()
    finally:
        shutil.rmtree(place)
