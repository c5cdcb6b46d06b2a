"""cli/install.sh as the README has it: from a checkout, by a user without any privilege, to the demo and out again. It builds
everything, which takes minutes, so it is part of tests/run.sh --full alone."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534


@pytest.fixture
def newcomer():
    """A home with a checkout in it, and the words before a command that make its user somebody without rights."""
    home = Path(tempfile.mkdtemp(prefix="pw-", dir="/tmp"))
    checkout = home / "portwrap"
    # What is there, committed or not, without what was built.
    names = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-C", ROOT, "--null", "-T", "-", "--ignore-failed-read", "-cf", home / "tree.tar"], input=names, check=True, capture_output=True)
    checkout.mkdir()
    subprocess.run(["tar", "-C", checkout, "-xf", home / "tree.tar"], check=True)
    (home / "tree.tar").unlink()
    become = []
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", home], check=True)
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    yield home, checkout, become
    shutil.rmtree(home)


def test_a_checkout_is_built_installed_shown_and_removed_without_root(newcomer):
    home, checkout, become = newcomer
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "XDG_RUNTIME_DIR": "", "DESTDIR": "/nowhere"}
    if shutil.which("ccache"):
        env |= {"CMAKE_CXX_COMPILER_LAUNCHER": "ccache", "CCACHE_DIR": str(home / ".ccache")}
    before = {path.name for path in home.iterdir()}

    def install(*words):
        done = subprocess.run([*become, "bash", checkout / "cli" / "install.sh", *words], cwd=home, env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    said = install("--demo")
    for line in ("install: all packages that the build needs are there", f"install: building in {checkout}/build/install",
                 f"install: installing to {home}/.local", "install: warning:", "is not in your PATH",
                 "portwrap: shop-fix/main listens on http://localhost:", 'This is the copy "main".', 'This is the copy "fix".',
                 "Both ran at once, unchanged, and are stopped again; nothing of the demo is left."):
        assert line in said, (line, said[-5000:])
    programs = home / ".local" / "bin"
    version = subprocess.run([*become, programs / "portwrap", "--version"], env=env, check=True, capture_output=True, text=True).stdout
    assert version.startswith("portwrap ")
    # Once more, with nothing to build; then nothing is left but what was there, the checkout and its compiler's cache.
    assert "Building CXX" not in install()
    assert f"removed from {home}/.local" in install("--uninstall")
    assert {path.name for path in home.iterdir()} - {".ccache"} == before
