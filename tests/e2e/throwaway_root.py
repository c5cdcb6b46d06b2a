"""This machine's root file system with a layer of its own on top, in namespaces of its own: packages are installed there with
the real dpkg, users made, a user's manager run, and nothing of it is left afterwards or seen outside."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from house import PATIENCE, wait_until
from user_manager import SYSTEMD, cgroup_root

# Pid 1 of the namespace: takes over orphans and ends with the test.
INIT = "import signal, time; signal.signal(signal.SIGCHLD, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
SETUP = """set -e
    base=$1
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$base"
    mkdir "$base/upper" "$base/work" "$base/root"
    mount -t overlay overlay -o lowerdir=/,upperdir="$base/upper",workdir="$base/work" "$base/root"
    cd "$base/root"
    mount -t proc proc proc
    mount --rbind /dev dev
    mount -t sysfs sysfs sys 2> /dev/null || mount --rbind /sys sys
    [ "$2" = none ] || { mount -t tmpfs tmpfs sys/fs/cgroup && mount -t cgroup2 cgroup2 sys/fs/cgroup; } 2> /dev/null || mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs run
    mount -t tmpfs -o mode=1777 tmpfs tmp
    mkdir -p run/systemd/system run/user
    exec chroot . /usr/bin/python3 -c "$3"
"""


def why_not():
    if os.geteuid() != 0:
        return "a root of our own needs root"
    for program in ("unshare", "nsenter", "dpkg", "setpriv", "useradd"):
        if not shutil.which(program):
            return f"no {program}"
    done = subprocess.run(
        ["unshare", "-m", "-p", "-C", "-f", "sh", "-c", "mount --make-rprivate / && mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/r && "
         "mount -t overlay o -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r && mount -t proc p /mnt/r/proc"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"no root of our own on this machine: {done.stderr.strip()}"


class ThrowawayRoot:
    USER, UID = "pw-tester", 47110

    def __init__(self, directory):
        self.base = Path(directory)
        group = cgroup_root()
        self.group = group / f"portwrap-test-{self.base.parent.name}-{self.base.name}" if group else None
        enter = ["sh", "-c", 'exec "$@"', "sh"]
        if self.group:
            self.group.mkdir()
            enter = ["sh", "-c", 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"', "sh", str(self.group)]
        self.process = subprocess.Popen(
            [*enter, "unshare", "-m", "-p", "-C", "-f", "--kill-child", "sh", "-c", SETUP, "sh", str(self.base), "own" if self.group else "none", INIT],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line == "ready\n", self.process.stderr.read()
        self.init = int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])
        self.check("useradd", "-m", "-s", "/bin/bash", "-u", str(self.UID), self.USER)
        self.home = f"/home/{self.USER}"
        self.runtime = f"/run/user/{self.UID}"
        self.check("install", "-d", "-m", "700", "-o", self.USER, self.runtime)
        self.env = {"HOME": self.home, "USER": self.USER, "XDG_RUNTIME_DIR": self.runtime, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8",
                    "TERM": "dumb", "PYTHONUNBUFFERED": "1"}

    def command(self, words, user, cwd):
        enter = ["nsenter", "-t", str(self.init), "-m", "-p", "-C", "-r", "-w", "sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", cwd]
        if not user:
            return [*enter, "env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *words]
        plain = ["setpriv", f"--reuid={self.UID}", f"--regid={self.UID}", "--clear-groups", "env", "-i"]
        return [*enter, *plain, *[f"{name}={value}" for name, value in self.env.items()], *words]

    def run(self, *words, user=False, cwd="/"):
        return subprocess.run(self.command([str(word) for word in words], user, cwd), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=4 * PATIENCE)

    def check(self, *words, user=False, cwd="/"):
        done = self.run(*words, user=user, cwd=cwd)
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def start(self, *words, cwd="/"):
        """The user's command, running; its streams joined."""
        return subprocess.Popen(self.command([str(word) for word in words], True, cwd), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def start_manager(self):
        """The user's own systemd, as a login has it."""
        # A group of its own that the user may divide further: what a login delegates.
        group = self.group / "manager"
        group.mkdir()
        for name in (".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
            os.chown(group / name, self.UID, self.UID)
        words = self.command([SYSTEMD, "--user", "--log-target=console", "--log-level=notice"], True, "/")
        with open(self.base.parent / "manager.log", "w") as log:
            manager = subprocess.Popen(["sh", "-c", 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"', "sh", str(group), *words],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: manager.poll() is not None or self.run("systemctl", "--user", "show-environment", user=True).returncode == 0,
                   "the user's manager runs")
        assert manager.poll() is None, (self.base.parent / "manager.log").read_text()

    def put(self, file, where):
        """Copies a file of the machine into the root."""
        subprocess.run(self.command(["tee", where], False, "/"), input=Path(file).read_bytes(), stdout=subprocess.DEVNULL, check=True)

    def is_directory(self, path):
        return self.run("test", "-d", f"/{path}").returncode == 0

    def files(self):
        """Every path, as ./PATH, that differs from the machine's."""
        changed = subprocess.run(
            ["nsenter", "-t", str(self.init), "-m", "sh", "-c", 'cd "$1/upper" && find . -mindepth 1', "sh", str(self.base)],
            capture_output=True, text=True, check=True).stdout
        return set(changed.splitlines())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
        if self.group is None:
            return

        def gone():
            for group in sorted((path for path in self.group.rglob("*") if path.is_dir()), reverse=True) + [self.group]:
                with contextlib.suppress(OSError):
                    group.rmdir()
            return not self.group.exists()
        wait_until(gone, "the root's control groups are gone")
