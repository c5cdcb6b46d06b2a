"""The shim does no harm: programs that make every socket call there is, well and badly, print the same with and without it.

`calls.c` plays scenes; each is run plain, with the shim and no agent, and under a real `portwrap` (PORTWRAP_PREFIX names the
installed programs), and the outputs are compared byte for byte. PORTWRAP_HARM_REPEAT=N repeats each N times (default 3).
"""

import functools
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SHIM = Path(os.environ.get("PORTWRAP_SHIM", HERE.parents[1] / "build/release/lib/portwrap/libportwrap.so")).resolve()
REPEAT = int(os.environ.get("PORTWRAP_HARM_REPEAT", "3"))
COMPILERS = [name for name in ("gcc", "musl-gcc") if shutil.which(name)]


@functools.lru_cache
def program(compiler):
    target = Path(tempfile.mkdtemp(prefix="portwrap-harm-")) / f"calls-{compiler}"
    subprocess.run([compiler, "-O1", "-Wall", "-pthread", "-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu",
                    "-o", target, HERE / "calls.c"], check=True)
    return target


def scenes():
    return subprocess.run([program("gcc")], check=True, capture_output=True, text=True).stdout.split()


def play(compiler, scene, port, *, wrap=(), env=None):
    done = subprocess.run([*wrap, program(compiler), scene, str(port)], capture_output=True, timeout=60,
                          env={"PATH": os.environ["PATH"], "LC_ALL": "C", **(env or {})}, cwd="/tmp")
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def port():
    """A number that nobody has, in no range of portwrap's and below the kernel's own."""
    for number in range(20100 + os.getpid() % 1000, 32000):
        with socket.socket() as tcp4, socket.socket(socket.AF_INET6) as tcp6, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                for one, address in ((tcp4, ("", number)), (udp, ("", number))):
                    one.bind(address)
                tcp6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                tcp6.bind(("::", number))
                return number
            except OSError:
                continue
    raise AssertionError("no free port")


@pytest.fixture(scope="module")
def house():
    """Private directories for an agent, and the agent's end."""
    prefix = os.environ.get("PORTWRAP_PREFIX")
    if not prefix:
        yield None
        return
    directory = tempfile.mkdtemp(prefix="pw-", dir="/tmp")
    env = {"HOME": directory, "XDG_RUNTIME_DIR": f"{directory}/run", "XDG_STATE_HOME": f"{directory}/state",
           "XDG_CONFIG_HOME": f"{directory}/config", "PATH": f"{prefix}/bin:/usr/bin:/bin"}
    os.mkdir(env["XDG_RUNTIME_DIR"], 0o700)
    yield env
    subprocess.run(["portctl", "agent", "stop"], env=env, capture_output=True)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("scene", scenes())
def test_the_output_is_the_same_with_the_shim_and_without(scene, compiler, port, house, tmp_path):
    if scene == "chroot" and os.geteuid() != 0:
        pytest.skip("only root can chroot")
    plain = play(compiler, scene, port)
    assert plain[0] == 0, plain
    (tmp_path / "run").mkdir(mode=0o700)
    alone = {"LD_PRELOAD": str(SHIM), "PORTWRAP_RUNTIME": str(tmp_path / "run")}
    for _ in range(REPEAT):
        assert play(compiler, scene, port) == plain, "the scene itself is not the same twice"
        assert play(compiler, scene, port, env=alone) == plain
        if house:
            assert play(compiler, scene, port, env=house, wrap=(f"{os.environ['PORTWRAP_PREFIX']}/bin/portwrap",)) == plain
