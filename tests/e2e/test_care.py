"""Audit, health and cleanup with real servers, and ports for new worktrees by git's hook."""

import shutil
import socket
import subprocess

import pytest

from house import wait_until


def test_audit_names_the_stranger_and_ends_with_1(house, shop):
    silent = int(house.portctl("get", "silent", cwd=shop).stdout)
    taken = int(house.portctl("get", "taken", cwd=shop).stdout)
    assert house.portctl("audit", cwd=shop).returncode == 0
    stranger = house.serve_unwrapped(taken, house.home)
    reply = house.ask("audit", cwd=shop, status=1)
    kinds = {finding["port"]: finding for finding in reply["findings"]}
    assert (kinds[silent]["kind"], kinds[silent]["listener"]) == ("not_running", None)
    assert kinds[taken]["kind"] == "conflict"
    assert kinds[taken]["listener"]["pid"] == stranger.pid
    assert kinds[taken]["listener"]["cwd"] == str(house.home)
    assert reply["summary"] == {"allocated": 2, "active": 0, "not_running": 1, "conflicts": 1, "active_percent": 0.0}
    table = house.portctl("audit", "--all", cwd=house.home)
    assert table.returncode == 1 and str(stranger.pid) in table.stdout
    fix = subprocess.run(["sh", "-c", kinds[silent]["fix"]], cwd=house.home, env=house.env)
    assert fix.returncode == 0 and len(house.leases()) == 1


def test_a_server_of_the_project_that_runs_without_portwrap_is_no_stranger(house, shop):
    house.serve_unwrapped(int(house.portctl("get", "web", cwd=shop).stdout), shop)
    reply = house.ask("audit", cwd=shop)
    assert reply["findings"] == [] and reply["summary"]["active_percent"] == 100.0


def test_health_says_who_answers(house):
    shop = house.project("shop", files={
        "package.json": "{}", "ok.txt": "fine",
        ".portwrap.json": '{"services": {"good": {"health": "/ok.txt"}, "bad": {"health": "/missing"}, "plain": {}, "mute": {"health": "/"}, "off": {}}}'})
    ports = {name: int(house.portctl("get", name, cwd=shop).stdout) for name in ("good", "bad", "plain", "mute", "off")}
    for name in ("good", "bad", "plain"):
        house.serve_unwrapped(ports[name], shop)
    with socket.create_server(("127.0.0.1", ports["mute"])):
        reply = house.ask("health", "--timeout", "0.3", cwd=shop, status=1)
    checks = {check["lease"]["service"]: check for check in reply["checks"]}
    assert {name: check["health"] for name, check in checks.items()} == {
        "good": "healthy", "bad": "unhealthy", "plain": "healthy", "mute": "unhealthy", "off": "not_running"}
    assert checks["good"]["response_ms"] >= 0 and checks["good"]["error"] is None
    assert "404" in checks["bad"]["error"] and "300 ms" in checks["mute"]["error"]
    assert {lease["service"]: lease["health"] for lease in house.leases(shop)}["good"] == "healthy"
    assert house.portctl("health", "good", cwd=shop).returncode == 0
    assert house.refusal("health", "nothing", cwd=shop, status=3)["code"] == "NOT_FOUND"


def test_cleanup_says_why_and_a_dry_run_changes_nothing(house):
    main, _ = house.worktrees("shop", files={"package.json": '{"name": "shop"}'})
    house.portctl("get", "web", cwd=main)
    clone = house.home / "clone"
    house.git(main, "clone", "-q", str(main), str(clone))
    port = int(house.portctl("get", "web", cwd=clone).stdout)
    stranger = house.project("other", files={"package.json": "{}"})
    house.portctl("get", "web", cwd=stranger)
    # Not deleted, which would end the leases at once: a disk that is not there looks the same.
    for place in (stranger, clone):
        place.rename(house.home / f"away {place.name}")
    expected = [(port, "worktree_gone")]
    for words in (["--dry-run"], []):
        reply = house.ask("cleanup", *words, cwd=main)
        assert [(entry["lease"]["port"], entry["reason"]) for entry in reply["released"]] == expected
        assert reply["dry_run"] is bool(words)
    assert {lease["project"]["root"] for lease in house.leases()} == {str(main), str(stranger)}
    assert house.refusal("cleanup", "--all", cwd=main, status=2)["code"] == "INVALID_REQUEST"
    assert len(house.ask("cleanup", "--all", "--yes", cwd=main)["released"]) == 1
    assert [lease["project"]["root"] for lease in house.leases()] == [str(main)]


@pytest.mark.parametrize("how", ["git", "rm"])
def test_a_removed_worktree_loses_its_ports_by_itself(house, how):
    main, linked = house.worktrees("shop", files={"package.json": '{"name": "shop"}'})
    house.portctl("get", "web", cwd=main)
    house.portctl("get", "web", cwd=linked)
    if how == "git":
        house.git(main, "worktree", "remove", "--force", str(linked))
    else:
        shutil.rmtree(linked)
    wait_until(lambda: [lease["project"]["root"] for lease in house.leases()] == [str(main)], "the ports are released")


HOOKS = {"plain": None, "existing": "#!/bin/sh\necho theirs\nexit 0\n", "husky": "echo theirs\n"}


@pytest.mark.parametrize("layout", HOOKS)
def test_a_new_worktree_has_its_ports_at_once(house, layout):
    main, _ = house.worktrees("shop", files={"package.json": '{"name": "shop"}'})
    main_port = int(house.portctl("get", "web", cwd=main).stdout)
    hook = main / ".git/hooks/post-checkout"
    if layout == "husky":
        (main / ".husky/_").mkdir(parents=True)
        house.git(main, "config", "core.hooksPath", ".husky/_")
        hook = main / ".husky/post-checkout"
        generated = main / ".husky/_/post-checkout"
        generated.write_text(f'#!/bin/sh\nsh -e "{hook}" "$@"\n')
        generated.chmod(0o755)
    if HOOKS[layout]:
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(HOOKS[layout])
        hook.chmod(0o755)
    for _ in range(2):  # twice is once
        assert house.portctl("hooks", "install", cwd=main).returncode == 0
    assert hook.read_text().count("portctl hooks run") == 1
    linked = house.home / "new tree"
    done = subprocess.run(["git", "worktree", "add", "-b", "new", str(linked)], cwd=main, env=house.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (lease,) = [lease for lease in house.leases() if lease["project"]["root"] == str(linked)]
    assert lease["service"] == "web" and lease["port"] != main_port
    assert f"portwrap: shop (new): web {lease['port']}" in done.stderr
    if HOOKS[layout]:
        assert "theirs" in done.stdout + done.stderr
    again = subprocess.run(["git", "checkout", "-q", "-b", "other"], cwd=linked, env=house.env, capture_output=True, text=True)
    assert again.returncode == 0 and "portwrap" not in again.stderr
    assert house.portctl("hooks", "uninstall", cwd=main).returncode == 0
    if HOOKS[layout]:
        assert hook.read_text() == HOOKS[layout]
    else:
        assert not hook.exists()


def test_the_hook_never_fails_a_checkout(house):
    main, linked = house.worktrees("shop", files={"package.json": '{"name": "shop"}'})
    assert house.portctl("hooks", "install", cwd=linked).returncode == 0
    env = {**house.env, "PATH": "/usr/bin:/bin"}
    assert subprocess.run(["git", "checkout", "-q", "-b", "a"], cwd=main, env=env, capture_output=True).returncode == 0
    env = {**house.env, "XDG_RUNTIME_DIR": "/proc/nowhere", "XDG_STATE_HOME": "/proc/nowhere"}
    assert subprocess.run(["git", "checkout", "-q", "-b", "b"], cwd=main, env=env, capture_output=True).returncode == 0


def test_a_hook_that_is_no_shell_script_is_not_touched(house):
    main, _ = house.worktrees("shop", files={"package.json": '{"name": "shop"}'})
    hook = main / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/usr/bin/env python3\nprint('theirs')\n")
    assert house.portctl("hooks", "install", cwd=main).returncode == 2
    assert hook.read_text() == "#!/usr/bin/env python3\nprint('theirs')\n"
    assert house.portctl("hooks", "install", cwd=house.home).returncode == 3
