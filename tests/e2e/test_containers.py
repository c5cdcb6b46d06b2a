"""Listeners of containers have the container's name: real Podman, whose service speaks Docker's API without a daemon, and Docker's
own proxy program."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from house import is_listening, wait_until

DOCKER_PROXY = os.environ.get("PORTWRAP_TEST_DOCKER_PROXY") or shutil.which("docker-proxy", path="/usr/bin:/usr/sbin:/usr/libexec/docker")
needs_proxy = pytest.mark.skipif(not DOCKER_PROXY, reason="docker-proxy (docker.io) is missing")
needs_podman = pytest.mark.skipif(not (shutil.which("podman") and shutil.which("runc") and shutil.which("busybox")), reason="podman, runc or busybox is missing")


class Engine:
    """Podman with storage, state and a socket of its own, and one tiny image."""

    def __init__(self, house):
        self.house = house
        base = house.directory / "engine"
        # crun and new control groups are not to be had everywhere; runc and the plainest storage are.
        self.command = ["podman", "--root", str(base / "root"), "--runroot", str(base / "run"), "--storage-driver", "vfs", "--runtime", "runc",
                        "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--tmpdir", str(base / "tmp")]
        image = base / "image"
        for path in ["/bin/busybox", *subprocess.run(["ldd", "/bin/busybox"], capture_output=True, text=True).stdout.split()]:
            if path.startswith("/") and Path(path).is_file():
                (image / path[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, image / path[1:])
        subprocess.run(["tar", "-C", str(image), "-cf", str(base / "image.tar"), "."], check=True)
        self.names = []
        self.run("import", str(base / "image.tar"), "tiny:latest")

    def run(self, *words):
        return self.house.run(*self.command, *words, deadline=120)

    def start(self, name, *options, port):
        self.names.append(name)
        return self.run("run", "-d", "--name", name, *options, "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
                        "tiny:latest", "/bin/busybox", "nc", "-ll", "-p", str(port), "-e", "/bin/busybox", "true")

    def serve(self, socket):
        Path(socket).parent.mkdir(parents=True, exist_ok=True)
        process = self.house.start(*self.command, "system", "service", "-t", "0", f"unix://{socket}", cwd=self.house.home)
        wait_until(lambda: Path(socket).exists(), lambda: process.stderr)
        return process

    def close(self):
        for name in self.names:
            self.run("rm", "-f", "-t", "0", name)


@pytest.fixture
def engine(house):
    engine = Engine(house)
    probe = engine.start("probe", "--network", "host", port=18999)
    engine.run("rm", "-f", "-t", "0", "probe")
    if probe.returncode != 0:
        pytest.skip(f"podman cannot run a container here: {probe.stderr.strip()[-200:]}")
    yield engine
    engine.close()


def container(house, port, command="check"):
    reply = json.loads(house.portctl(command, str(port), "--json").stdout)
    (name,) = {listener["container"] for listener in reply["listeners"]}
    return name


@pytest.fixture
def proxy(house):
    """The program that dockerd starts for each published port, with its arguments; descriptor 3 is where it reports."""
    arguments = [DOCKER_PROXY, "-proto", "tcp", "-host-ip", "127.0.0.1", "-host-port", "18082", "-container-ip", "127.0.0.1", "-container-port", "80"]
    process = house.start("sh", "-c", 'exec "$@" 3>/dev/null', "sh", *arguments, cwd=house.home)
    wait_until(lambda: is_listening(18082), lambda: process.stderr)
    return process


@needs_podman
def test_a_program_on_the_host_s_network_is_known_by_its_monitor(house, engine):
    assert engine.start("web-1", "--network", "host", port=18080).returncode == 0
    wait_until(lambda: is_listening(18080), "the container listens")
    for command in ("check", "who"):
        assert container(house, 18080, command) == "web-1"
    shop = house.project("shop", files={"package.json": "{}"})
    refused = house.refusal("allocate", "web", "18080", "--range", "default", cwd=shop, status=1)
    assert refused["code"] in ("PORT_IN_USE", "OUT_OF_RANGE")


@needs_podman
def test_a_refusal_names_the_container(house, engine):
    shop = house.project("shop", files={"package.json": "{}"})
    assert engine.start("grafana", "--network", "host", port=3777).returncode == 0
    wait_until(lambda: is_listening(3777), "the container listens")
    refused = house.refusal("allocate", "web", "3777", cwd=shop, status=1)
    assert "container grafana" in refused["message"] and refused["details"]["container"] == "grafana"


@needs_podman
def test_a_published_port_is_the_container_s_by_the_engine_s_word(house, engine):
    shop = house.project("shop", files={"package.json": "{}"})
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    started = engine.start("shop-db-1", "-p", f"{port}:80", "--network", "slirp4netns", port=80)
    if started.returncode != 0:
        pytest.skip(f"podman cannot publish a port here: {started.stderr.strip()[-200:]}")
    wait_until(lambda: is_listening(port), "the port is published")
    engine.serve(house.runtime / "podman" / "podman.sock")
    assert container(house, port) == "shop-db-1"
    (finding,) = house.ask("audit", cwd=shop, status=1)["findings"]
    assert (finding["kind"], finding["listener"]["container"]) == ("conflict", "shop-db-1")
    assert "container shop-db-1" in house.portctl("audit", cwd=shop).stdout


@needs_podman
def test_a_container_of_the_project_s_compose_file_is_no_stranger(house, engine):
    """With the label that compose and podman-compose give every container."""
    shop = house.project("shop", files={"package.json": "{}", ".portwrap.json": '{"services": {"db": {"kind": "database"}}}'})
    port = int(house.portctl("get", "db", cwd=shop).stdout)
    started = engine.start("shop-db-1", "-p", f"{port}:80", "--network", "slirp4netns", "--label", f"com.docker.compose.project.working_dir={shop}", port=80)
    if started.returncode != 0:
        pytest.skip(f"podman cannot publish a port here: {started.stderr.strip()[-200:]}")
    wait_until(lambda: is_listening(port), "the port is published")
    engine.serve(house.runtime / "podman" / "podman.sock")
    reply = house.ask("audit", cwd=shop)
    assert reply["findings"] == [] and reply["summary"]["active"] == 1
    assert house.ask("health", "db", cwd=shop)["checks"][0]["health"] == "healthy"
    assert container(house, port) == "shop-db-1"
    (lease,) = house.leases(shop)
    assert lease["state"] == "active"
    assert house.run(*engine.command, "rm", "-f", "-t", "0", "shop-db-1", deadline=120).returncode == 0
    wait_until(lambda: house.leases(shop)[0]["state"] == "allocated", "it has ended")


@needs_proxy
def test_docker_s_proxy_tells_where_it_leads(house, proxy):
    assert container(house, 18082) == "127.0.0.1:80"
    assert "container 127.0.0.1:80" in house.portctl("check", "18082").stdout


@needs_proxy
@needs_podman
def test_an_engine_that_does_not_answer_is_given_up(house, engine, proxy):
    service = engine.serve(house.runtime / "podman" / "podman.sock")
    os.kill(service.pid, signal.SIGSTOP)
    asking = [house.start("portctl", "check", "18082", "--json", cwd=house.home) for _ in range(8)]
    assert house.portctl("get", "web", cwd=house.project("shop", files={"package.json": "{}"})).returncode == 0
    for process in asking:
        process.wait()
        assert json.loads(process.stdout)["listeners"][0]["container"] == "127.0.0.1:80"


def test_what_runs_in_no_container_has_none(house):
    house.serve_unwrapped(18083, house.home)
    assert container(house, 18083) is None
