"""cli/install.sh: installs, installs again over a running agent, and leaves nothing behind but what is the user's."""

import os
import shutil
import subprocess

import pytest

from house import HERE, is_alive, wait_until
from user_manager import UserManager, why_not

SCRIPT = HERE.parent.parent / "cli" / "install.sh"


@pytest.fixture
def build():
    directory = os.environ.get("PORTWRAP_BUILD", "")
    if not os.path.exists(f"{directory}/cmake_install.cmake"):
        pytest.skip("PORTWRAP_BUILD names no build directory")
    return directory


def install(house, *words, status=0):
    # DESTDIR as somebody's packaging leaves it behind is not obeyed.
    done = house.run("bash", SCRIPT, *words, env={"XDG_DATA_HOME": "", "DESTDIR": str(house.directory / "staged")})
    assert not (house.directory / "staged").exists()
    assert done.returncode == status, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


def everything(directory):
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_help_and_mistakes(house):
    assert "--uninstall" in install(house, "--help")
    assert "--prefix wants a directory" in install(house, "--prefix", status=1)
    assert "--prefix wants a directory" in install(house, "--prefix=", status=1)
    assert "--build wants" in install(house, "--build", str(house.home), status=1)
    assert "--build wants" in install(house, f"--build={house.home}", status=1)
    assert "Usage" in install(house, "--wrong", status=2)
    assert "nothing of portwrap is installed" in install(house, "--uninstall", "--prefix", str(house.home / "nowhere"), status=1)
    assert everything(house.home) == set()
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-s", "bash", SCRIPT], check=True)


def test_installs_again_and_again_and_removes_what_it_made(house, build):
    prefix = house.home / "a new place" / "of my own"
    (house.home / ".local" / "share").mkdir(parents=True)
    (house.home / ".local" / "share" / "mine").write_text("")
    before = everything(house.home)
    said = install(house, f"--build={build}", f"--prefix={prefix}/")
    assert f"installing to {prefix}" in said and "not in your PATH" in said
    assert (house.home / ".local/share/systemd/user/portwrap-agent.socket").resolve() == prefix / "lib/systemd/user/portwrap-agent.socket"
    first = everything(house.home)
    house.env["PATH"] = f"{prefix}/bin:" + house.env["PATH"]
    shop = house.project("shop")
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    pid = house.agent_pid()
    assert os.path.realpath(f"/proc/{pid}/exe") == str(prefix / "bin" / "portwrap-agent")
    away = house.directory / "not there"  # not deleted, which would end its lease
    shop.rename(away)

    # What an earlier version had and this one has not goes; what is somebody else's stays.
    stale, foreign = prefix / "share" / "portwrap-old" / "page", prefix / "lib" / "portwrap" / "mine"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    with open(prefix / "lib/portwrap/installed-files", "a") as manifest:
        manifest.write(f"{stale}\n")
    said = install(house, "--build", build, "--prefix", str(prefix))
    assert f"restarting the agent that runs (pid {pid})" in said
    assert not is_alive(pid) and house.agent_pid() != pid
    assert not stale.exists()
    stale.parent.rmdir()
    assert everything(house.home) == first
    away.rename(shop)
    assert house.port(shop, "web") == port

    foreign.write_text("")
    pid = house.agent_pid()
    # Lines that people have by now; they are told of them, and keep them.
    lines = {house.home / ".bashrc": 'eval "$(portctl init bash)"\n', house.home / ".zshrc": 'eval "$(portctl completion zsh)"\n',
             house.config / "fish" / "config.fish": "portctl init fish | source\n",
             house.config / "starship.toml": house.portctl("init", "starship").stdout}
    for file, text in lines.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    said = install(house, "--uninstall", "--prefix", str(prefix))
    for file, text in lines.items():
        assert f"{file} still calls portctl" in said and file.read_text() == text, said
        if file.is_relative_to(house.home):
            file.unlink()
    assert f"stopping the agent (pid {pid})" in said and not is_alive(pid)
    assert f"your leases are kept in {house.registry}" in said
    assert (house.registry / "journal.jsonl").exists()
    shutil.rmtree(shop)
    left = {str(path.relative_to(house.home)) for path in (foreign, *foreign.parents) if path.is_relative_to(house.home) and path != house.home}
    assert everything(house.home) - before == left
    assert "nothing of portwrap is installed" in install(house, "--uninstall", "--prefix", str(prefix), status=1)


def test_two_installations_leave_each_other_alone(house, build):
    one, two = house.home / "one", house.home / "two"
    install(house, "--build", build, "--prefix", str(one))
    install(house, "--build", build, "--prefix", str(two))
    house.env["PATH"] = f"{one}/bin:" + house.env["PATH"]
    pid = house.start_agent()
    assert "an agent of another installation runs" in install(house, "--build", build, "--prefix", str(two))
    install(house, "--uninstall", "--prefix", str(two))
    assert house.agent_pid() == pid, "somebody else's agent is not stopped"
    assert not two.exists()
    assert install(house, "--uninstall", "--prefix", str(one))
    assert not is_alive(pid) and everything(house.home) == set()


def test_a_directory_may_be_spelled_as_one_likes(house, build):
    there = house.home / "there"
    (house.home / "link").symlink_to(there)
    install(house, "--build", str(build), "--prefix", f"{house.home}/./elsewhere/..//there/")
    assert "nothing of portwrap" in install(house, "--uninstall", "--prefix", str(house.home / "elsewhere"), status=1)
    said = install(house, "--uninstall", "--prefix", str(house.home / "link"), status=1)
    assert f"--prefix {there}" in said and (there / "bin/portctl").exists()
    install(house, "--uninstall", "--prefix", f"{there}/../there")
    assert not everything(there)


def test_an_installation_at_home_is_started_by_the_users_systemd(house, build):
    if why_not():
        pytest.skip(why_not())
    manager = UserManager(house, house.directory / "none")
    try:
        prefix = house.home / ".local"
        install(house, "--build", build)
        house.env["PATH"] = f"{prefix}/bin:" + house.env["PATH"]
        shop = house.project("shop")
        port = int(house.portctl("get", "web", cwd=shop).stdout)
        pid = manager.main_pid()
        assert house.agent_pid() == pid
        install(house, "--build", build)
        assert house.agent_pid() == manager.main_pid() != pid
        assert house.port(shop, "web") == port
        pid = house.agent_pid()
        install(house, "--uninstall")
        wait_until(lambda: not is_alive(pid), "the service is stopped")
        assert not house.socket.exists()
        assert everything(prefix) <= {"state", "state/portwrap", *(f"state/portwrap/{path.name}" for path in house.registry.iterdir())}
    finally:
        manager.close()
