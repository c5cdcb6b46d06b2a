"""What may be in a program's company: other preload libraries, sanitizers, another C library; and programs that a preload
library cannot see, which are recognised and said to be so."""

import re
import shutil
import subprocess

import pytest

from house import NODE_MODULES, RANGES, SANITIZED, compile_c, fetch, wait_until
from test_socket_habits import ASKED, HOLD, own_port, start, taken  # noqa: F401 (a fixture)

OTHER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>
#include <unistd.h>
static int calls[2];
int bind(int fd, const struct sockaddr *a, socklen_t n) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    if (a->sa_family != AF_UNIX && calls[0]++ == 0) { (void)!write(2, "other bind\n", 11); }
    return next(fd, a, n);
}
int connect(int fd, const struct sockaddr *a, socklen_t n) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    if (a->sa_family != AF_UNIX && calls[1]++ == 0) { (void)!write(2, "other connect\n", 14); }
    return next(fd, a, n);
}
"""

SERVER = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons(23100);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t size = sizeof a;
    if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 8) != 0) { perror("bind"); return 1; }
    if (connect(client, (struct sockaddr *)&a, sizeof a) != 0) { perror("connect"); return 1; }
    getsockname(fd, (struct sockaddr *)&a, &size);
    char *leak = malloc(10);
    snprintf(leak, 10, "%d", ntohs(a.sin_port));
    printf("ready %s\n", leak);
    free(leak);
    fflush(stdout);
    char c;
    return read(0, &c, 1) < 0;
}
"""


@pytest.fixture
def build(tmp_path):
    def build(compiler, text, name, *options):
        (tmp_path / f"{name}.c").write_text(text)
        done = subprocess.run([compiler, "-O1", *options, "-o", tmp_path / name, tmp_path / f"{name}.c"], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{compiler} {' '.join(options)}: {done.stderr.splitlines()[-1:]}")
        return tmp_path / name
    return build


@pytest.mark.parametrize("before", [True, False], ids=["theirs in LD_PRELOAD before", "theirs added after ours"])
def test_another_preload_library_is_called_and_calls_on(house, taken, build, before):  # noqa: F811
    if before and SANITIZED:
        pytest.skip("the sanitizer that portwrap is built with here wants to be the first library")
    other = build("gcc", OTHER, "other.so", "-shared", "-fPIC", "-ldl")
    script = HOLD.replace("print(", 'socket.create_connection(("127.0.0.1", 23100)); print(')
    if before:
        root, process = start(house, script, env={"LD_PRELOAD": str(other)})
    else:
        root, process = start(house, script, "sh", "-c", f'LD_PRELOAD="$LD_PRELOAD:{other}" exec "$@"', "sh")
    own_port(house, root, process)
    process.wait_for("other bind\n(?s:.*)other connect\n", "stderr")


@pytest.mark.parametrize("compiler, options", [
    ("gcc", ()), ("gcc", ("-fsanitize=address",)), ("gcc", ("-fsanitize=address", "-static-libasan")), ("gcc", ("-fsanitize=undefined",)),
    ("clang", ("-fsanitize=address",)), ("clang", ("-fsanitize=address", "-shared-libasan")), ("clang", ("-fsanitize=thread",)),
    ("musl-gcc", ()), ("gcc", ("-m32",))], ids=lambda value: value if isinstance(value, str) else " ".join(value) or "plain")
def test_programs_of_every_build_are_served(house, taken, build, compiler, options):  # noqa: F811
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    if "-m32" in options:
        pytest.skip("the library is of one word size")
    server = build(compiler, SERVER, "server", *options)
    env = {}
    if "-shared-libasan" in options:
        library = subprocess.run([compiler, "-print-file-name=libclang_rt.asan-x86_64.so"], capture_output=True, text=True).stdout.strip()
        env["LD_LIBRARY_PATH"] = str(library).rsplit("/", 1)[0]
    if "-fsanitize=thread" in options and subprocess.run([server], capture_output=True).returncode not in (0, 1):
        pytest.skip("this kernel's address space is none for the thread sanitizer")
    root = house.project("shop", files={"requirements.txt": "\n"})
    process = house.wrap(str(server), cwd=root, env=env)
    own_port(house, root, process)
    process.close_stdin()
    assert process.wait() == 0, process.stderr
    assert [line for line in process.stderr.splitlines() if not line.startswith("portwrap: ")] == []


def test_asan_is_found_in_descendants_and_the_users_options_stay(house, build):
    server = build("gcc", SERVER, "server", "-fsanitize=address")
    root = house.project("shop")
    process = house.wrap("sh", "-c", f'echo "$ASAN_OPTIONS"; "{server}"; echo "status $?"', cwd=root, env={"ASAN_OPTIONS": "detect_leaks=1"})
    process.wait_for("^ready")
    process.close_stdin()
    process.wait_for("^status 0")
    assert process.stdout.startswith("detect_leaks=1:verify_asan_link_order=0\n")


def test_a_go_program_is_recognised_and_told_its_port(house, taken):  # noqa: F811
    esbuild = NODE_MODULES / "@esbuild/linux-x64/bin/esbuild"
    if not esbuild.exists():
        pytest.skip("no esbuild for this machine")
    root = house.project("shop", files={"index.js": "console.log(1)\n", "package.json": "{}"})
    process = house.wrap(str(esbuild), "--serve=localhost:{port}", "index.js", "--outdir=out", cwd=root)
    line = process.wait_for(r"^portwrap: esbuild cannot be intercepted \(it is written in Go.*PORT=(\d+).*$", "stderr")
    assert process.stderr.count("cannot be intercepted") == 1
    assert "console.log(1)" in fetch(int(line[1]), "/index.js")


def test_static_programs_are_recognised_and_quiet_is_quiet(house, build):
    static = build("gcc", "int main(void) { return 7; }", "static", "-static")
    done = house.run("portwrap", str(static))
    assert done.returncode == 7
    assert re.fullmatch(r"portwrap: static cannot be intercepted \(it is statically linked\).*\n", done.stderr), done.stderr
    for quiet in (("portwrap", "-q"), ("env", "PORTWRAP_QUIET=1", "portwrap")):
        assert house.run(*quiet, str(static)).stderr == ""
    script = house.home / "script"
    script.write_text(f"#!{static} -x\n")
    script.chmod(0o755)
    assert "statically linked" in house.run("portwrap", str(script)).stderr
    assert house.run("portwrap", "portctl", "version").stderr == ""


@pytest.mark.parametrize("contents", [b"", b"\x7fELF", b"#!", b"#!\n", b"\x7fELF" + b"\xff" * 100, b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x02\0\x3e\0" + b"\xff" * 60])
def test_odd_files_are_left_to_exec(house, contents):
    odd = house.home / "odd"
    odd.write_bytes(contents)
    odd.chmod(0o755)
    plain = house.run("env", str(odd))
    wrapped = house.run("portwrap", str(odd))
    assert wrapped.returncode == plain.returncode, wrapped.stderr


def test_musl_programs_connect_to_their_own_copy(house, build):
    if shutil.which("musl-gcc") is None:
        pytest.skip("no musl-gcc")
    server = build("musl-gcc", SERVER, "server")
    ports = []
    for name in ("shop", "blog"):
        root = house.project(name, files={"requirements.txt": "\n"})
        process = house.wrap(str(server), cwd=root)
        ports.append(int(process.wait_for(r"^ready (\d+)")[1]))
    assert ports[0] == ASKED and ports[1] in range(*RANGES["python"])
    wait_until(lambda: len(house.leases()) == 2, "both are listed")


@pytest.mark.skipif(shutil.which("busybox") is None, reason="no busybox")
def test_two_copies_of_busybox_httpd(house):
    ports = []
    for name in ("shop", "blog"):
        root = house.project(name)
        house.wrap("busybox", "httpd", "-f", "-p", "127.0.0.1:23500", cwd=root)
        wait_until(lambda place=root: [lease for lease in house.leases(place) if lease["state"] == "active"], "httpd listens")
        (lease,) = house.leases(root)
        assert fetch(lease["port"], "/content.txt") == f"content of {name}\n"
        ports.append(lease["port"])
    assert ports[0] == 23500 != ports[1]
