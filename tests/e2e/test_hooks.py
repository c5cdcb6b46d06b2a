"""Ports for new worktrees by git's hook: real git, real Husky, hooks of other people's, and every place where hooks may lie."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from house import NODE_MODULES, assert_active, wait_until

APP = {"package.json": '{"name": "shop"}'}


@pytest.fixture
def repository(house):
    main = house.project("shop", files=APP)
    house.git(main, "init", "-q", "-b", "main")
    house.git(main, "add", "-A")
    house.git(main, "commit", "-q", "-m", "An app")
    return main


def git(house, cwd, *words, env=None):
    return subprocess.run(["git", *map(str, words)], cwd=cwd, env={**house.env, **(env or {})}, capture_output=True, text=True)


def ports(house, root):
    return {lease["service"]: lease["port"] for lease in house.leases() if lease["project"]["root"] == str(root)}


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


@pytest.mark.parametrize("how", ["hook", "get"])
@pytest.mark.parametrize("number", ["3000", 'int(os.environ.get("PORT", 3000))'])
def test_the_port_that_a_worktree_was_promised_is_its_servers(house, number, how):
    server = f"""
import os, socket, sys
server = socket.create_server(("127.0.0.1", {number}))
print("ready", server.getsockname()[1])
sys.stdin.read()
"""
    main = house.project("shop", files={"server.py": server, **APP})
    house.git(main, "init", "-q", "-b", "main")
    house.git(main, "add", "-A")
    house.git(main, "commit", "-q", "-m", "A shop")
    if how == "hook":
        assert house.portctl("hooks", "install", cwd=main).returncode == 0
    # The command is known from here on: its next run, also in a worktree, is told its port in advance.
    house.wrap("python3", "server.py", cwd=main).wait_for("^ready 3000$", "stdout")
    linked = house.home / "shop-docs"
    said = git(house, main, "worktree", "add", "-b", "docs", linked).stderr
    if how == "get":
        said = f"main {house.portctl('get', 'main', cwd=linked).stdout}"
    (promised,) = house.leases(linked)
    assert f"main {promised['port']}\n" in said and promised["requested_port"] is None
    plan = house.run("portwrap", "-n", "python3", "server.py", cwd=linked).stderr
    assert f"offers: port {promised['port']} to main" in plan, plan
    for _ in range(2):
        run = house.wrap("python3", "server.py", cwd=linked)
        assert int(run.wait_for(r"^ready (\d+)$", "stdout")[1]) == promised["port"]
        (lease,) = house.leases(linked)
        assert_active(lease, port=promised["port"], asked=3000, root=linked)
        run.close_stdin()
        assert run.wait() == 0
        # It was got by name, and stays when its program ends.
        wait_until(lambda: [lease["state"] for lease in house.leases(linked)] == ["allocated"], "the program's end is seen")


def test_the_hook_never_fails_a_checkout(house):
    main, linked = house.worktrees("shop", files={"package.json": '{"name": "shop"}'})
    assert house.portctl("hooks", "install", cwd=linked).returncode == 0
    env = {**house.env, "PATH": "/usr/bin:/bin"}
    assert subprocess.run(["git", "checkout", "-q", "-b", "a"], cwd=main, env=env, capture_output=True).returncode == 0
    env = {**house.env, "XDG_RUNTIME_DIR": "/proc/nowhere", "XDG_STATE_HOME": "/proc/nowhere"}
    assert subprocess.run(["git", "checkout", "-q", "-b", "b"], cwd=main, env=env, capture_output=True).returncode == 0


@pytest.mark.parametrize("content", [b"#!/usr/bin/env python3\nprint('theirs')\n", Path("/bin/true").read_bytes()], ids=["python", "program"])
def test_a_hook_that_is_no_shell_script_is_not_touched(house, repository, content):
    hook = repository / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_bytes(content)
    assert "portctl hooks run" in house.refusal("hooks", "install", cwd=repository, status=2)["message"]
    assert house.portctl("hooks", "uninstall", cwd=repository).returncode == 0
    assert hook.read_bytes() == content


HUSKY = {"husky": ("bin.js", [], 'echo theirs "$3"\n'), "husky8": ("lib/bin.js", ["install"], '#!/usr/bin/env sh\n. "$(dirname -- "$0")/_/husky.sh"\n\necho theirs "$3"\n')}


@pytest.mark.parametrize("version", HUSKY)
@pytest.mark.parametrize("where", [".husky", "tools/git hooks"])
def test_real_husky_runs_the_hook_and_keeps_its_own(house, repository, version, where):
    if not (NODE_MODULES / version).is_dir():
        pytest.skip(f"{version} is not in tests/servers/node_modules")
    program, words, script = HUSKY[version]
    main = repository
    (main / ".gitignore").write_text("node_modules\n")

    def install_husky(root):
        if not (root / "node_modules").exists():
            (root / "node_modules").mkdir()
            shutil.copytree(NODE_MODULES / version, root / "node_modules" / version)
        (root / where).mkdir(parents=True, exist_ok=True)
        # A linked worktree's .git is a file, which either version takes.
        assert house.run("node", f"node_modules/{version}/{program}", *words, where, cwd=root).returncode == 0

    install_husky(main)
    theirs = main / where / "post-checkout"
    theirs.write_text(script)
    theirs.chmod(0o755 if version == "husky8" else 0o644)
    house.git(main, "add", "-A")
    house.git(main, "commit", "-q", "-m", "Husky")
    house.portctl("get", "web", cwd=main)
    (main / "src").mkdir()
    said = house.portctl("hooks", "install", "--json", cwd=main / "src")
    result = json.loads(said.stdout)
    assert (result["hook"], result["git"]) == (str(theirs), "tracked"), said.stderr
    assert f"{theirs} is tracked by git: commit" in said.stderr and "npm install" not in said.stderr
    assert house.portctl("hooks", "install", cwd=main).returncode == 0
    assert theirs.read_text().count("portctl hooks run") == 1
    assert theirs.stat().st_mode & 0o777 == (0o755 if version == "husky8" else 0o644)

    linked = house.home / "linked"
    done = git(house, main, "worktree", "add", "-b", "new", linked)
    assert done.returncode == 0 and "theirs 1" in done.stdout + done.stderr
    assert done.stderr.count(f"portwrap: shop (new): web {ports(house, linked)['web']}") == 1
    # Husky runs this file as `sh -e FILE`, and it must not fail a checkout where portctl is not to be had.
    without = git(house, main, "checkout", "-q", "-b", "other", env={"PATH": "/usr/bin:/bin"})
    assert without.returncode == 0, without.stderr

    # Committed, it serves worktrees that are made from any other one that Husky is installed in.
    house.git(main, "commit", "-q", "-a", "-m", "Ports", "--no-verify")
    house.git(linked, "merge", "-q", "--no-verify", "other")
    if version == "husky":
        said = house.portctl("hooks", "install", cwd=linked)
        assert said.returncode == 0 and "npm install" in said.stderr
    install_husky(linked)
    third = house.home / "third"
    done = git(house, linked, "worktree", "add", "-b", "third", third)
    assert done.returncode == 0 and f"portwrap: shop (third): web {ports(house, third)['web']}" in done.stderr, done.stderr

    # It is taken out wherever it is, and the files are as they were before.
    done = house.portctl("hooks", "uninstall", cwd=linked)
    assert done.returncode == 0 and done.stdout.count("removed from") == 3 and done.stderr.count("is tracked by git") == 3
    for root in (main, linked, third):
        assert (root / where / "post-checkout").read_text() == script
    assert git(house, main, "diff", "--stat", "HEAD~1").stdout == ""


def test_a_checkout_of_files_starts_nothing(house, repository):
    assert house.portctl("hooks", "install", cwd=repository).returncode == 0
    house.stop_agent()
    (repository / "package.json").write_text("changed")
    assert git(house, repository, "checkout", "--", "package.json").returncode == 0
    assert house.agent_pids() == []
    assert git(house, repository, "checkout", "-q", "-b", "other").returncode == 0
    assert len(house.agent_pids()) == 1


def test_worktrees_that_exist_have_their_ports_when_the_hook_is_installed(house, repository):
    linked, gone = house.home / "linked", house.home / "gone"
    for place in (linked, gone):
        house.git(repository, "worktree", "add", "-q", "-b", place.name, str(place))
    shutil.rmtree(gone)
    house.portctl("get", "web", cwd=repository)
    done = house.portctl("hooks", "install", "--json", cwd=repository)
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    assert ports(house, linked) and not ports(house, gone)
    assert f"portwrap: shop (linked): web {ports(house, linked)['web']}" in done.stderr
    assert house.portctl("hooks", "install", cwd=linked).stderr == ""


def test_a_worktree_of_a_bare_repository_has_the_services_of_another_one(house, repository):
    bare = house.home / "bare.git"
    house.git(repository, "clone", "-q", "--bare", str(repository), str(bare))
    first, second = house.home / "first", house.home / "second"
    house.git(bare, "worktree", "add", "-q", str(first), "main")
    house.portctl("get", "web", cwd=first)
    assert house.portctl("hooks", "install", cwd=bare).returncode == 0
    done = git(house, bare, "worktree", "add", "-b", "second", second)
    assert f"web {ports(house, second)['web']}" in done.stderr
    assert ports(house, second) != ports(house, first)


@pytest.mark.parametrize("scope", ["--global", "--local"])
def test_core_hookspath_is_followed_wherever_it_leads(house, repository, scope):
    hooks = house.home / "deep/hooks"
    house.git(repository, "config", scope, "core.hooksPath", "~/deep/hooks" if scope == "--global" else str(hooks))
    house.portctl("get", "web", cwd=repository)
    assert house.portctl("hooks", "install", cwd=repository).returncode == 0
    assert "portctl hooks run" in (hooks / "post-checkout").read_text()
    linked = house.home / "linked"
    assert "web" in git(house, repository, "worktree", "add", "-b", "x", linked).stderr
    assert house.portctl("hooks", "uninstall", cwd=linked).returncode == 0
    assert list(hooks.iterdir()) == []


def test_a_relative_hooks_path_is_served_in_each_worktree_s_own_files(house, repository):
    house.git(repository, "config", "core.hooksPath", ".githooks")
    house.portctl("get", "web", cwd=repository)
    (repository / "src").mkdir()
    hook = repository / ".githooks/post-checkout"

    def install(cwd):
        done = house.portctl("hooks", "install", "--json", cwd=cwd)
        assert done.returncode == 0
        return json.loads(done.stdout), done.stderr

    result, said = install(repository / "src")
    assert (result["hook"], result["git"]) == (str(hook), "untracked")
    assert f"{hook} is a new file of the working tree: commit it" in said
    assert "core.hooksPath is relative" in said and "made from here" in said
    first, second, third = (house.home / name for name in ("first", "second", "third"))
    assert "web" in git(house, repository, "worktree", "add", "-b", "first", first).stderr

    # Shared by a commit, worktrees are served that are made from others, too.
    house.git(repository, "add", "-A")
    house.git(repository, "commit", "-q", "-m", "Ports")
    assert install(repository)[0]["git"] == "tracked"
    git(house, repository, "worktree", "add", "-q", "-b", "second", second)
    done = git(house, second, "worktree", "add", "-b", "third", third)
    assert f"web {ports(house, third)['web']}" in done.stderr

    # In a worktree of an older commit, and ignored there: nothing is said of commits.
    (repository / ".git/info").mkdir(exist_ok=True)
    (repository / ".git/info/exclude").write_text(".githooks\n")
    result, said = install(first)
    assert (result["hook"], result["git"]) == (str(first / ".githooks/post-checkout"), "ignored")
    assert "commit" not in said and "core.hooksPath is relative" in said
    done = house.portctl("hooks", "uninstall", cwd=third)
    assert done.stdout.count("removed from") == 4
    assert not [root for root in (repository, first, second, third) if (root / ".githooks/post-checkout").exists()]


def test_a_relative_hooks_path_of_a_bare_repository_lies_in_it(house, repository):
    bare = house.home / "bare.git"
    house.git(repository, "clone", "-q", "--bare", str(repository), str(bare))
    house.git(bare, "config", "core.hooksPath", "my hooks")
    first, second = house.home / "first", house.home / "second"
    house.git(bare, "worktree", "add", "-q", str(first), "main")
    house.portctl("get", "web", cwd=first)
    assert house.portctl("hooks", "install", cwd=bare).returncode == 0
    assert "web" in git(house, bare, "worktree", "add", "-b", "second", second).stderr
    assert house.portctl("hooks", "uninstall", cwd=first).stdout == f"removed from {bare}/my hooks/post-checkout\n"


@pytest.mark.parametrize("content", ["", "#!/bin/sh\n", "#!/usr/bin/env -S bash -eu\necho theirs\n"], ids=["empty", "first line alone", "bash by env"])
def test_a_hook_is_left_as_it_was_found(house, repository, content):
    house.portctl("get", "web", cwd=repository)
    hook = repository / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(content)
    hook.chmod(0o750)
    assert house.portctl("hooks", "install", cwd=repository).returncode == 0
    done = git(house, repository, "worktree", "add", "-b", "x", house.home / "linked")
    assert done.returncode == 0 and "portwrap: shop (x): web" in done.stderr and ("theirs" in done.stdout + done.stderr) == ("theirs" in content)
    assert house.portctl("hooks", "uninstall", cwd=repository).returncode == 0
    assert hook.read_text() == content and hook.stat().st_mode & 0o777 == 0o750


def test_a_hook_that_its_owner_switched_off_stays_off(house, repository):
    hook = repository / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho mine\n")
    hook.chmod(0o644)
    done = house.portctl("hooks", "install", cwd=repository)
    assert done.returncode != 0 and "is not executable" in done.stderr
    assert hook.read_text() == "#!/bin/sh\necho mine\n" and hook.stat().st_mode & 0o777 == 0o644


def test_what_was_installed_before_husky_came_is_removed_too(house, repository):
    assert house.portctl("hooks", "install", cwd=repository).returncode == 0
    house.git(repository, "config", "core.hooksPath", ".husky/_")
    assert house.portctl("hooks", "install", cwd=repository).returncode == 0
    done = house.portctl("hooks", "uninstall", cwd=repository)
    assert done.returncode == 0 and done.stdout.count("removed from") == 2
    assert not (repository / ".git/hooks/post-checkout").exists() and not (repository / ".husky/post-checkout").exists()
    assert "not installed" in house.portctl("hooks", "uninstall", cwd=repository).stdout


def test_a_link_that_leads_nowhere_is_left_alone(house, repository):
    hook = repository / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.symlink_to("../../nowhere")
    assert "a symbolic link to ../../nowhere, which is not there" in house.refusal("hooks", "install", cwd=repository, status=2)["message"]
    assert house.portctl("hooks", "uninstall", cwd=repository).returncode == 0
    assert hook.is_symlink() and not (repository / "nowhere").exists()
    # Where it leads somewhere, what is there is served.
    (repository / "nowhere").write_text("#!/bin/sh\n")
    (repository / "nowhere").chmod(0o755)
    assert house.portctl("hooks", "install", cwd=repository).returncode == 0
    assert hook.is_symlink() and "portctl hooks run" in (repository / "nowhere").read_text()


OLD_GIT = """#!/bin/sh
case " $* " in *" worktree"*" {word} "*) echo "error: unknown: {word}" >&2; exit 129;; esac
for word; do  # rev-parse repeats what it does not know
    shift
    if [ "$word" = --{word}=absolute ]; then echo "$word"; else set -- "$@" "$word"; fi
done
exec {git} "$@"
"""


@pytest.mark.parametrize("unknown", ["-z", "list", "path-format"])
def test_an_older_git_s_worktrees_are_found(house, repository, unknown, tmp_path):
    """Before 2.36 `git worktree list` has no -z, before 2.31 rev-parse no --path-format, before 2.7 there are no lists: the real git without that."""
    linked = house.home / "linked"
    house.git(repository, "worktree", "add", "-q", "-b", "linked", str(linked))
    house.git(repository, "config", "core.hooksPath", ".githooks")
    house.portctl("get", "web", cwd=repository)
    old = tmp_path / "bin/git"
    old.parent.mkdir()
    old.write_text(OLD_GIT.format(word=unknown, git=shutil.which("git")))
    old.chmod(0o755)
    house.env["PATH"] = f"{old.parent}:{house.env['PATH']}"
    for place in (linked, repository):
        assert house.portctl("hooks", "install", cwd=place).returncode == 0
    assert ports(house, linked)
    done = house.portctl("hooks", "uninstall", cwd=repository)
    assert done.stdout.count("removed from") == (1 if unknown == "list" else 2), done
    assert not (repository / ".githooks/post-checkout").exists()


def test_a_hook_of_all_repositories_says_so(house, repository):
    hooks = house.home / "hooks"
    house.git(repository, "config", "--global", "core.hooksPath", str(hooks))
    assert "this hook serves every one of them" in house.portctl("hooks", "install", cwd=repository).stderr
    assert "none of them has this hook any more" in house.portctl("hooks", "uninstall", cwd=repository).stderr
    assert house.portctl("hooks", "uninstall", cwd=repository).stderr == ""
    # A path of the repository's own goes before it.
    house.git(repository, "config", "--local", "core.hooksPath", str(house.home / "own"))
    for action in ("install", "uninstall"):
        assert "all repositories" not in house.portctl("hooks", action, cwd=repository).stderr


def test_hooks_that_cannot_be_installed_say_why(house, repository):
    house.git(repository, "config", "core.hooksPath", "/dev/null")
    assert "git runs no hooks here" in house.refusal("hooks", "install", cwd=repository, status=2)["message"]
    assert house.portctl("hooks", "uninstall", cwd=repository).returncode == 0
    house.git(repository, "config", "core.hooksPath", "")
    assert "empty string" in house.refusal("hooks", "install", cwd=repository, status=3)["message"]
    house.git(repository, "config", "--unset", "core.hooksPath")
    assert "-C" in house.refusal("hooks", "install", "--project", "shop", cwd=repository, status=2)["message"]
    outside = house.portctl("hooks", "install", cwd=house.home)
    assert outside.returncode == 3 and outside.stderr.count("\n") == 1 and "not a git repository" in outside.stderr


def test_many_worktrees_at_once_have_ports_of_their_own(house, repository):
    for service in ("web", "api"):
        house.portctl("get", service, cwd=repository)
    assert house.portctl("hooks", "install", cwd=repository).returncode == 0
    places = [house.home / f"tree{number}" for number in range(8)]
    # One after the other where git writes its own files; the checkouts, and with them the hooks, at once.
    for place in places:
        house.git(repository, "worktree", "add", "-q", "--no-checkout", "-b", place.name, str(place))
    running = [house.start("git", "checkout", "-q", "-b", f"{place.name}-work", cwd=place) for place in places]
    assert [process.wait() for process in running] == [0] * len(running)
    given = [port for place in places for port in ports(house, place).values()]
    assert len(given) == len(set(given)) == 16
