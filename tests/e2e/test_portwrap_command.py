"""`portwrap COMMAND` is the command: same process, same streams, same exit status; portwrap's own refusals are 125, 126 and
127; and nothing but the session's few lines is added to stderr."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from house import SANITIZED, wait_until

LIBRARY = str(next(Path("/usr/lib").glob("*-linux-gnu/libm.so.6")))  # any will do to see that LD_PRELOAD is extended


def test_the_command_is_the_same_process(house):
    process = house.wrap("sh", "-c", "echo $$", cwd=house.home)
    assert int(process.wait_for(r"^(\d+)$", "stdout")[1]) == process.pid


@pytest.mark.parametrize("status", [0, 1, 7, 125, 255])
def test_the_exit_status_is_that_of_the_command(house, status):
    assert house.run("portwrap", "sh", "-c", f"exit {status}").returncode == status


def test_death_by_a_signal_is_seen_as_such(house):
    assert house.run("portwrap", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM


def test_a_signal_reaches_the_command(house):
    process = house.wrap("sh", "-c", 'trap "echo caught; exit 9" INT; echo set; read line', cwd=house.home)
    process.wait_for("^set$")
    os.kill(process.pid, signal.SIGINT)
    process.wait_for("^caught$")
    assert process.wait() == 9


def test_ignored_signals_stay_ignored_and_sigpipe_is_not_changed(house):
    command = ["grep", "-E", "^(SigBlk|SigIgn|SigCgt):", "/proc/self/status"]
    plain = house.run("sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *command)
    wrapped = house.run("sh", "-c", "trap '' HUP; exec \"$@\"", "sh", "portwrap", *command)
    assert wrapped.stdout == plain.stdout


def test_nothing_is_added_to_the_streams(house):
    data = bytes(range(256)) * 1000
    done = subprocess.run(["portwrap", "cat"], cwd=house.home, env=house.env, input=data, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


@pytest.mark.parametrize("wrong, status", [
    (["./no-such-command"], 127), (["no-such-command"], 127), (["./plain.txt"], 126), (["./directory"], 126),
    (["--no-such-option", "true"], 125), ([], 125), (["-p", "70000", "true"], 125), (["-p", "0", "true"], 125),
    (["-p", "3e3", "true"], 125), (["-p", "-1", "true"], 125), (["-p", "3000 ", "true"], 125), (["-p", "true"], 125),
    (["-p", "2601", "true"], 125), (["-r", "no-such-range", "true"], 125)])
def test_what_cannot_be_run_ends_with_the_right_status(house, wrong, status):
    root = house.project("shop", files={"plain.txt": "hello"})
    (root / "directory").mkdir()
    done = house.run("portwrap", *wrong, cwd=root)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr.startswith("portwrap: ") or "sage" in done.stderr, done.stderr


def test_options_end_at_the_first_word_that_is_none(house):
    assert house.run("portwrap", "-q", "printf", "%s.", "-p", "--version").stdout == "-p.--version."
    assert house.run("portwrap", "--", "printf", "%s", "--help").stdout == "--help"
    (house.home / "-odd").write_text("#!/bin/sh\necho odd\n")
    (house.home / "-odd").chmod(0o755)
    assert house.run("portwrap", "--", "-odd", env={"PATH": f"{house.home}:{house.env['PATH']}"}).stdout == "odd\n"


def test_help_and_version_are_printed(house):
    version = house.run("portwrap", "--version")
    assert version.returncode == 0 and "0.1.0" in version.stdout
    usage = house.run("portwrap", "--help")
    assert usage.returncode == 0
    for option in ("--port", "--service", "--type", "--range", "--kind", "--dry-run", "--quiet"):
        assert option in usage.stdout, option
    assert house.agent_pids() == [], "neither needs an agent"


def test_arguments_with_spaces_quotes_and_bytes_arrive_as_they_were(house):
    words = ["a b", "", "'", '"', "$HOME", "\\", "\n", "ü", "*"]
    done = house.run("portwrap", "printf", "%s|", *words)
    assert done.stdout == "|".join(words) + "|"
    done = subprocess.run(["portwrap", "printf", "%s", b"\xff\xfe"], cwd=house.home, env=house.env, capture_output=True)
    assert done.stdout == b"\xff\xfe"


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime wants to be the first library of portwrap itself")
def test_ld_preload_is_extended_and_neither_dropped_nor_doubled(house):
    command = ["sh", "-c", "tr '\\0' '\\n' < /proc/$$/environ | grep ^LD_PRELOAD="]
    alone = house.run("portwrap", *command).stdout.strip()
    assert alone.count("libportwrap.so") == 1
    more = house.run("portwrap", *command, env={"LD_PRELOAD": LIBRARY}).stdout.strip()
    assert LIBRARY in more and more.count("libportwrap.so") == 1
    nested = house.run("portwrap", "portwrap", "portwrap", *command).stdout.strip()
    assert nested == alone


def test_the_environment_is_that_of_the_user_otherwise(house):
    def variables(*prefix):
        output = house.run(*prefix, "env", "-0", env={"FOO": "a\nb"}).stdout
        return dict(item.split("=", 1) for item in output.split("\0") if item)

    plain, wrapped = variables(), variables("portwrap")
    added = {name: value for name, value in wrapped.items() if plain.get(name) != value}
    assert set(added) <= {"LD_PRELOAD", "PORTWRAP_RUNTIME", "PORTWRAP_SESSION", "PORTWRAP_TABLE", "ASAN_OPTIONS"}
    assert not set(plain) - set(wrapped)
    assert added["PORTWRAP_RUNTIME"] == str(house.runtime / "portwrap")


def test_the_directory_the_terminal_and_the_descriptors_are_those_of_the_caller(house):
    root = house.project("shop")
    assert house.run("portwrap", "pwd", "-P", cwd=root).stdout.strip() == str(root.resolve())
    plain = house.run("sh", "-c", "ls /proc/self/fd; umask").stdout
    assert house.run("portwrap", "sh", "-c", "ls /proc/self/fd; umask").stdout == plain


def test_a_disabled_portwrap_leaves_the_port_alone(house, listener):
    first = house.wrap(listener, "bind", "3000", cwd=house.project("shop"))
    port = int(first.wait_for(r"^\d+ (\d+)$")[1])
    second = house.wrap(listener, "bind", str(port), cwd=house.project("blog"), env={"PORTWRAP_DISABLE": "1"})
    assert int(second.wait_for(r"^\d+ (-\d+)$")[1]) == -98  # EADDRINUSE


@pytest.mark.parametrize("quiet", [["-q"], []])
def test_quiet_says_nothing_about_a_moved_port(house, listener, quiet):
    env = {} if quiet else {"PORTWRAP_QUIET": "1"}
    for name in ("shop", "blog"):
        process = house.wrap(*quiet, listener, "bind", "3000", cwd=house.project(name), env=env)
        process.wait_for(r"^\d+ (\d+)$")
    process.close_stdin()
    assert process.wait() == 0
    assert process.stderr == ""


def test_a_moved_port_is_told_once_a_session(house, listener):
    holder = house.wrap(listener, "bind", "3000", cwd=house.project("shop"))
    holder.wait_for(r"^\d+ (\d+)$")
    again = "for i in 1 2 3; do $LISTENER bind 3000 < /dev/null; done"
    done = house.run("portwrap", "sh", "-c", again, cwd=house.project("blog"), env={"LISTENER": str(listener)})
    ports = [line.split()[1] for line in done.stdout.splitlines()]
    assert len(ports) == 3 and len(set(ports)) == 1, done.stdout
    assert done.stderr.count("listens on") == 1, done.stderr


def test_a_server_that_redirects_its_stderr_does_not_get_the_line_in_its_file(house, listener):
    holder = house.wrap(listener, "bind", "3000", cwd=house.project("shop"))
    holder.wait_for(r"^\d+ (\d+)$")
    root = house.project("blog")
    done = house.run("portwrap", "sh", "-c", '"$LISTENER" bind 3000 < /dev/null 2> own.log', cwd=root,
                     env={"LISTENER": str(listener)})
    assert int(done.stdout.split()[1]) > 0
    assert (root / "own.log").read_text() == ""


def test_dry_run_prints_and_changes_nothing(house):
    root = house.project("shop", "express")
    done = house.run("portwrap", "--dry-run", "node", "server.js", cwd=root)
    assert done.returncode == 0
    assert "node" in done.stdout + done.stderr
    assert "ready" not in done.stdout
    assert house.leases() == []
    assert house.ask("agent", "status")["agent"]["sessions"] == 0


def test_open_starts_the_browser_when_it_listens(house, listener):
    shop = house.project("shop", files={"package.json": "{}"})
    seen = house.directory / "seen"
    browser = house.directory / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{seen}.new" && mv "{seen}.new" "{seen}"\n')
    browser.chmod(0o755)
    process = house.wrap("--open", listener, "bind", "3000", cwd=shop, env={"BROWSER": f"{browser} %s"})
    port = process.wait_for(r"^\d+ (\d+)$")[1]
    wait_until(seen.exists, "the browser is started")
    assert seen.read_text() == f"http://localhost:{port}\n"


@pytest.mark.skipif(SANITIZED, reason="a leak check at the end wants /proc")
def test_without_proc_the_command_runs_and_everybody_says_what_is_missing(house):
    hidden = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    if house.run(*hidden, "true").returncode != 0:
        pytest.skip("no mount namespace of our own on this machine")
    done = house.run(*hidden, "portwrap", "echo", "hi")
    assert (done.returncode, done.stdout) == (0, "hi\n") and "unmanaged: /proc is not mounted" in done.stderr
    done = house.run(*hidden, "portctl", "get", "web")
    assert done.returncode == 69 and "/proc is not mounted" in done.stderr
    done = house.run(*hidden, "portctl", "doctor")
    assert done.returncode == 1 and "/proc is not mounted" in done.stdout
    assert "unmanaged: /proc" not in house.run(*hidden, "portwrap", "-q", "echo", "hi").stderr
