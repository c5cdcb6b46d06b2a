"""A real `systemd --user` for a house: in a mount and a cgroup namespace, so that the machine needs not run systemd and
nothing of it is touched. Its runtime directory is the house's, where the house's programs find it."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from house import is_alive, wait_until

SYSTEMD = "/lib/systemd/systemd"


def cgroup_root():
    """Where the second version of control groups is mounted, for us to make some; else None."""
    for place in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        if Path(place, "cgroup.procs").exists() and Path(place, "cgroup.controllers").exists() and os.access(place, os.W_OK):
            return Path(place)
    return None


def why_not():
    """Why no such manager can be run here, or None."""
    if os.geteuid() != 0:
        return "a user manager of our own needs root"
    if not os.path.exists(SYSTEMD) or not shutil.which("systemctl") or not shutil.which("unshare"):
        return "no systemd or no unshare installed"
    if cgroup_root() is None:
        return "no control groups of version 2 that can be written"
    done = subprocess.run(["unshare", "-m", "-C", "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True)
    return None if done.returncode == 0 else "mount and cgroup namespaces are not allowed here"


class UserManager:
    # Its group is the root of all that it sees: a manager moves whatever it finds in its root.
    SCRIPT = """set -e
        mount --make-rprivate /
        mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd; mkdir /run/systemd/system
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        exec "$0" --user --log-target=console --log-level=notice"""

    def __init__(self, house, unit_path):
        # Where a manager's agent has its registry: what differs from the defaults is not the manager's agent.
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            house.env.pop(name)
        house.state, house.config = house.home / ".local" / "state", house.home / ".config"
        self.house = house
        self.group = cgroup_root() / f"portwrap-test-{house.directory.name}"
        self.group.mkdir()
        self.log = house.directory / "manager.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"', "sh", str(self.group),
                 "unshare", "-m", "-C", "sh", "-c", self.SCRIPT, SYSTEMD],
                env={**house.env, "SYSTEMD_UNIT_PATH": f"{unit_path}:"}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        try:
            self.await_start()
        except BaseException:
            self.close()
            raise

    def await_start(self):
        wait_until(lambda: self.process.poll() is not None or self.ctl("show-environment").returncode == 0,
                   lambda: f"the user's manager runs: {self.log.read_text()}")
        assert self.process.poll() is None, self.log.read_text()

    def ctl(self, *words):
        return self.house.run("systemctl", "--user", "--no-pager", *words)

    def do(self, *words):
        done = self.ctl(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr, self.log.read_text())
        return done.stdout

    def state(self, unit):
        return self.ctl("show", "--value", "-p", "ActiveState", unit).stdout.strip()

    def main_pid(self, unit="portwrap-agent.service"):
        return int(self.do("show", "--value", "-p", "MainPID", unit))

    def close(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        for name in self.group.rglob("cgroup.kill"):
            with contextlib.suppress(OSError):
                name.write_text("1")
        groups = sorted((path for path in self.group.rglob("*") if path.is_dir()), reverse=True) + [self.group]

        def gone():
            for group in groups:
                with contextlib.suppress(OSError):
                    group.rmdir()
            return not self.group.exists()
        wait_until(gone, "the manager's control groups are gone")
        self.process.wait()
        assert not is_alive(self.process.pid)
