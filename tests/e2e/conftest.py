"""Fixtures of the end-to-end tests. They run the installed programs found under PORTWRAP_PREFIX, each test in a house of
its own (see house.py) under /tmp: a Unix socket's path has room for 107 bytes only."""

import ctypes
import os
import tempfile
from pathlib import Path

import pytest

from house import HERE, House, compile_c

MNT_DETACH = 2  # umount2(2)


@pytest.fixture(scope="session")
def prefix():
    value = os.environ.get("PORTWRAP_PREFIX")
    if not value or not (Path(value) / "bin" / "portwrap").exists():
        pytest.exit(f"PORTWRAP_PREFIX={value}: must name the directory that portwrap is installed in (tests/run.sh sets it)", 2)
    return Path(value)


@pytest.fixture
def house(prefix):
    place = House(tempfile.mkdtemp(prefix="pw-", dir="/tmp"), prefix)
    yield place
    place.close()


@pytest.fixture
def shop(house):
    return house.project("shop", files={"package.json": '{"name": "shop"}'})


@pytest.fixture
def blog(house):
    return house.project("blog", files={"package.json": '{"name": "blog"}'})


@pytest.fixture(scope="session")
def listener(tmp_path_factory):
    """The program listener.c, compiled."""
    return compile_c(HERE / "listener.c", tmp_path_factory.mktemp("bin") / "listener")


@pytest.fixture
def dead_mount(tmp_path):
    """A FUSE mount whose server never says a word."""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("mounting needs root and /dev/fuse")
    libc = ctypes.CDLL(None, use_errno=True)
    point = tmp_path / "dead mount"
    point.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"dead", os.fsencode(point), b"fuse", 0, options) != 0:
        os.close(device)
        pytest.skip("cannot mount: " + os.strerror(ctypes.get_errno()))
    yield point
    libc.umount2(os.fsencode(point), MNT_DETACH)
    os.close(device)  # whoever hangs there gets ENOTCONN now


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The agent's log belongs to the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    place = item.funcargs.get("house") if hasattr(item, "funcargs") else None
    if report.when == "call" and report.failed and place is not None:
        report.sections.append(("agent.log", place.log[-6000:]))
