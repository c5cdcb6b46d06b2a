"""The ports in the prompts of real shells, each in a terminal of its own (tmux)."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from house import House, wait_until
from terminal import Terminal

SHELLS = ("bash", "zsh", "fish")
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"
INIT = {"bash": 'eval "$(portctl init bash)"\n', "zsh": 'eval "$(portctl init zsh)"\n', "fish": "portctl init fish | source\n"}
PROMPT = {
    "bash": "PS1='ready> '\n", "zsh": "PROMPT='ready> '\n",
    "fish": "set -g fish_greeting\nfunction fish_prompt\n    printf 'ready> '\nend\n"}


@pytest.fixture
def served(house):
    """A project that has a port: its directory, and the port."""
    shop = house.project("shop", files={"package.json": "{}"})
    return shop, int(house.portctl("get", "web", cwd=shop).stdout)


@pytest.fixture
def open_terminal(house):
    terminals = []

    def open_one(shell, cwd, *, before="", after="", env=None, inside=()):
        terminals.append(Terminal(house, shell, before + PROMPT[shell] + INIT[shell] + after, cwd, env, inside))
        return terminals[-1]
    yield open_one
    for terminal in terminals:
        terminal.close()


def serve(house, listener, root, port):
    process = house.wrap(listener, "bind", str(port), cwd=root)
    return process, int(process.wait_for(r"^\d+ (\d+)$")[1])


@pytest.mark.parametrize("shell", SHELLS)
def test_the_segment_comes_and_goes_with_the_server(house, listener, open_terminal, shell):
    shop = house.project("shop", files={"package.json": "{}"})
    terminal = open_terminal(shell, shop)
    terminal.expect("ready>")
    process, port = serve(house, listener, shop, 3000)
    terminal.expect(f":{port} ready>")
    other, second = serve(house, listener, shop, 3456)
    terminal.expect(f":{port} :{second} ready>")
    process.kill()
    terminal.expect(f":{second} ready>")
    other.kill()
    terminal.expect("ready>")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_segment_follows_the_directory(house, listener, open_terminal, shell):
    main, linked = house.worktrees("odd ü $(x) 'q'", files={"package.json": "{}", "src/deep/file": ""})
    _, first = serve(house, listener, main, 3000)
    _, second = serve(house, listener, linked, 3000)
    (house.home / "link").symlink_to(main / "src")
    nested = main / "nested"
    house.git(main, "worktree", "add", "-q", "-b", "nested", str(nested))
    terminal = open_terminal(shell, house.home, env={"MAIN": str(main), "LINKED": str(linked)})
    terminal.expect("ready>")
    terminal.say('cd "$MAIN"/src/deep')
    terminal.expect(f":{first} ready>")
    terminal.say('cd "$LINKED"')
    terminal.expect(f":{second} ready>")
    terminal.say("cd ~/link/deep")
    terminal.expect(f":{first} ready>")
    terminal.do("cd ..; pwd")
    terminal.expect(f":{first} ready>")
    assert str(house.home / "link") in terminal.screen()
    terminal.say('cd "$MAIN"/nested')  # a worktree of its own, without ports
    terminal.expect("ready>")
    terminal.do("cd /")
    terminal.expect("ready>")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_segment_changes_when_the_port_moves(house, listener, open_terminal, shell):
    shop = house.project("shop", files={"package.json": "{}"})
    blog = house.project("blog", files={"package.json": "{}"})
    terminal = open_terminal(shell, shop)
    process, port = serve(house, listener, shop, 3000)
    terminal.expect(f":{port} ready>")
    process.kill()
    terminal.expect("ready>")
    # A person gives the number to somebody else: the server moves on, and the prompt with it.
    house.portctl("release", str(port), "--force", cwd=shop)
    taken = house.ask("allocate", "web", str(port), cwd=blog)["lease"]["port"]
    _, moved = serve(house, listener, shop, 3000)
    assert moved != taken == port
    terminal.expect(f":{moved} ready>")
    number = int(house.portctl("get", "web", cwd=shop).stdout)
    terminal.expect(f":{moved} :{number} ready>")
    fresh = house.ask("update", "web", "--port", str(number + 40), cwd=shop)["lease"]["port"]
    assert fresh == number + 40
    terminal.expect(f":{moved} :{fresh} ready>")


ODD_NAMES = ["line\nbreak", "two  spaces and one at the end ", "ünï-çødé 名前", "*?[x] ~ $HOME `id` \\ \"q\"", "-n", "@at"]


@pytest.mark.parametrize("shell", SHELLS)
def test_directories_of_any_name(house, open_terminal, shell):
    terminal = open_terminal(shell, house.home, env={f"DIR{index}": str(house.home / name) for index, name in enumerate(ODD_NAMES)})
    terminal.expect("ready>")
    for index, name in enumerate(ODD_NAMES):
        root = house.project(name, files={"package.json": "{}", "sub/file": ""})
        port = house.ask("get", "web", cwd=root)["lease"]["port"]
        wait_until(lambda: house.portctl("prompt", cwd=root).stdout == f"~:{port}\n", f"the segment of {name!r}")
        assert house.portctl("prompt", cwd=root / "sub").stdout == f"~:{port}\n", name
        terminal.do(f'cd -- "$DIR{index}/sub"')
        terminal.expect(f":{port} ready>")
    terminal.do("cd /")
    terminal.expect("ready>")


@pytest.mark.parametrize("shell", SHELLS)
def test_no_runtime_directory_no_path_to_say_and_no_readable_directory(house, open_terminal, shell):
    shop = house.project("shop", files={"package.json": "{}"})
    port = house.ask("get", "web", cwd=shop)["lease"]["port"]
    gone = house.project("gone", files={"package.json": "{}"})
    # Components together longer than any path with their mirror may be.
    deep = house.home
    terminal = open_terminal(shell, shop)
    terminal.expect(f":{port} ready>")
    house.stop_agent()
    (house.runtime / "portwrap").rename(house.runtime / "elsewhere")
    terminal.expect("ready>")
    terminal.do(f"cd {gone}")
    gone.joinpath("package.json").unlink()
    gone.joinpath("content.txt").unlink()
    gone.rmdir()
    terminal.expect("ready>")
    for _ in range(18):
        deep = deep / ("d" * 100)
        deep.mkdir()
        terminal.do(f"cd {house.home}; cd {'d' * 100}" if deep.parent == house.home else "cd " + "d" * 100)
    terminal.expect("ready>")
    terminal.do(f"cd {shop}")
    terminal.expect("ready>")
    house.start_agent()
    terminal.expect(f":{port} ready>")
    for word in ("rror", "annot", "No such", "nbound", "not found"):
        assert word not in terminal.screen().replace("cannot access parent directories", ""), terminal.screen()


@pytest.mark.parametrize("shell", SHELLS)
def test_an_agent_in_another_runtime_directory_than_the_shells(house, open_terminal, shell):
    """As over ssh, after su, from cron: the registry is the same, and its lock says where the agent lives."""
    shop = house.project("shop", files={"package.json": "{}"})
    elsewhere = house.directory / "it's $(else)where"
    elsewhere.mkdir(mode=0o700)
    there = {"XDG_RUNTIME_DIR": str(elsewhere)}
    early = open_terminal(shell, shop, env=there)
    early.expect("ready>")
    port = house.ask("get", "web", cwd=shop)["lease"]["port"]
    assert (house.runtime / "portwrap" / "agent.sock").exists() and not (elsewhere / "portwrap").exists()
    early.expect(f":{port} ready>")
    late = open_terminal(shell, shop, env=there)
    late.expect(f":{port} ready>")
    here = open_terminal(shell, shop)
    assert house.portctl("prompt", cwd=shop, env=there).stdout == f"~:{port}\n"
    # The next agent lives there: then these have it in their own directory, and that one has not.
    house.kill_agent()
    for terminal in (early, late, here):
        terminal.expect("ready>")
    assert house.portctl("prompt", cwd=shop, env=there).stdout == ""
    assert house.portctl("port", "web", cwd=shop, env=there).stdout == f"{port}\n"
    assert (elsewhere / "portwrap" / "agent.sock").exists()
    for terminal in (early, late, here):
        terminal.expect(f":{port} ready>")
    assert house.portctl("prompt", cwd=shop).stdout == f"~:{port}\n"
    assert house.portctl("agent", "stop", cwd=shop, env=there).returncode == 0
    for terminal in (early, late, here):
        terminal.expect("ready>")


ROOT_OF_ITS_OWN = """
root=$1
shift
for place in /*; do
    if [ "$place" = /srv ]; then
        continue
    elif [ -L "$place" ]; then
        ln -sfn "$(readlink "$place")" "$root$place"
    elif [ -d "$place" ]; then
        mkdir -p "$root$place"
        mount --rbind "$place" "$root$place"
    fi
done
exec chroot "$root" "$@"
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_project_in_the_root_directory(house, open_terminal, shell):
    """As in a container. `/` is a project of all that lies below when it has a config, else of what runs in it alone."""
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespaces here")
    root = house.directory / "root"
    (root / "srv" / "app").mkdir(parents=True)
    (root / "srv" / "own").mkdir()
    (root / "srv" / "own" / ".portwrap.json").write_text("{}")
    config = root / ".portwrap.json"
    config.write_text('{"name": "top"}')
    inside = [*unshare, "sh", "-c", ROOT_OF_ITS_OWN, "sh", str(root)]

    def portctl(*words):
        return house.run(*inside, str(house.prefix / "bin" / "portctl"), *words, cwd="/").stdout
    port = int(portctl("get", "web"))
    terminal = open_terminal(shell, "/", inside=inside)
    terminal.do("cd /")
    terminal.expect(f":{port} ready>")
    for place, segment in (("/srv/app", True), ("/srv/own", False), ("/srv/app/..", True), ("/", True)):
        terminal.do(f"cd {place}")
        terminal.expect(f":{port} ready>" if segment else "ready>")
        assert portctl("prompt", "-C", place) == (f"~:{port}\n" if segment else ""), place
    config.unlink()
    for place, segment in (("/srv/app", False), ("/", True)):
        terminal.do(f"cd {place}")
        terminal.expect(f":{port} ready>" if segment else "ready>")
        assert portctl("prompt", "-C", place) == (f"~:{port}\n" if segment else ""), place


@pytest.mark.parametrize("shell", SHELLS)
def test_what_runs_in_the_home_directory_is_no_matter_of_the_directories_in_it(house, open_terminal, shell):
    port = house.ask("get", "web", cwd=house.home)["lease"]["port"]
    (house.home / "downloads").mkdir()
    terminal = open_terminal(shell, house.home)
    terminal.expect(f":{port} ready>")
    terminal.do("cd downloads")
    terminal.expect("ready>")
    assert house.portctl("prompt", cwd=house.home).stdout == f"~:{port}\n"
    assert house.portctl("prompt", cwd=house.home / "downloads").stdout == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_silent_ports_are_marked_and_many_are_counted(house, open_terminal, shell, served):
    shop, port = served
    terminal = open_terminal(shell, shop)
    terminal.expect(f":{port} ready>")
    assert "\x1b[2m" in terminal.tmux("capture-pane", "-p", "-e")
    for service in ("a", "b", "c", "d"):
        house.portctl("get", service, cwd=shop)
    terminal.expect(r":\d+ \+4 ready>")
    wait_until(lambda: re.fullmatch(r"~:\d+ \+4\n", house.portctl("prompt", cwd=shop).stdout), "portctl says the same")
    assert house.portctl("prompt", "--format", "[{port}]", cwd=shop).stdout == f"[{port}]"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_dead_agent_and_a_broken_file_show_nothing(house, open_terminal, shell, served):
    shop, port = served
    terminal = open_terminal(shell, shop)
    terminal.expect(f":{port} ready>")
    file = house.runtime / "portwrap" / ("prompt" + str(shop).replace("/", "/@")) / "segment"
    text = file.read_text()
    for broken in ("", "$(touch x)\n" + text.split("\n")[1] + "\n", text.split("\n")[0] + "\n999999999\n", "\0\0\0"):
        file.write_text(broken)
        terminal.expect("ready>")
        assert house.portctl("prompt", cwd=shop).stdout == ""
        file.write_text(text)
        terminal.expect(f":{port} ready>")
    house.kill_agent()
    terminal.expect("ready>")
    assert house.portctl("prompt", cwd=shop).stdout == ""
    assert not house.agent_pids(), "neither the prompt nor portctl prompt starts an agent"
    house.start_agent()
    terminal.expect(f":{port} ready>")
    house.stop_agent()
    terminal.expect("ready>")
    assert not file.exists()
    assert "No such file" not in terminal.screen()


# Made before the hook is defined, which a shell that replaces aliases as it reads would define with them.
WRONG_ALIASES = "".join(f"alias {word}=false\n" for word in (
    "builtin", "shopt", "setopt", "emulate", "local", "typeset", "return", "read", "cd", "unset", "printf", "true", "autoload", "add-zsh-hook"))


@pytest.mark.parametrize("shell, before, after", [
    ("bash", "set -u\nPROMPT_COMMAND='mine=1;'\n", ""),
    ("bash", "PROMPT_COMMAND=(: 'theme')\ntheme() { PS1='ready> '; }\n", ""),
    ("bash", "IFS=:/\nset -f\n", "shopt -s nocasematch\n"),
    ("bash", "set -euo pipefail\ntrap 'true' ERR DEBUG\n", "set +e\n"),
    ("bash", WRONG_ALIASES, ""),
    ("bash", "set -o posix\n" + WRONG_ALIASES, ""),
    ("zsh", WRONG_ALIASES + "alias -g file=FILE segment=SEGMENT word=WORD agent=AGENT line=LINE dir=DIR text=TEXT\n", ""),
    ("zsh", "setopt ignore_braces rc_quotes sh_glob\n", ""),
    ("zsh", "setopt err_exit ignore_close_braces csh_null_glob glob_subst\n", "unsetopt err_exit\n"),
    ("fish", "function realpath\n    echo wrong\nend\n", ""),
    ("bash", "", "PROMPT_COMMAND+=('last=1')\nPS1='\\[\\e[1m\\]ready> \\[\\e[0m\\]'\n"),
    ("bash", "", "PS1='\\n\\nready> '\n"),
    ("bash", "", "PS1='${PORTWRAP_PROMPT-}ready> '\n"),
    ("bash", "shopt -u promptvars extglob\nset -o noclobber\n", "alias read=false cd=false local=false\n"),
    ("fish", "", "function fish_right_prompt\nend\n"),
    ("fish", "set -g fish_prompt_pwd_dir_length 0\nfunction cd\n    builtin cd $argv\nend\n", ""),
    ("zsh", "setopt nounset ksh_arrays sh_word_split\nprecmd() { PROMPT='ready> ' }\n", ""),
    ("zsh", "setopt prompt_subst extended_glob\n", "PROMPT='${PORTWRAP_PROMPT}ready> '\n"),
    ("zsh", "setopt prompt_subst\n", "PROMPT='%{%}%{%}${PORTWRAP_PROMPT-}ready> '\n"),
    ("fish", "", "function fish_prompt\n    echo -n \"$PORTWRAP_PROMPT\"'ready> '\nend\nportctl init fish | source\n"),
    # The start file is read again after the user's prompt was made anew.
    ("bash", "", "PROMPT_COMMAND=:\neval \"$(portctl init bash)\"\n"),
    ("zsh", "", "precmd_functions=()\neval \"$(portctl init zsh)\"\n"),
    ("fish", "", "function fish_prompt\n    printf 'ready> '\nend\nportctl init fish | source\n"),
])
def test_the_users_own_settings_and_the_segment_live_together(house, open_terminal, shell, before, after, served):
    shop, port = served
    terminal = open_terminal(shell, shop, before=before, after=after)
    terminal.expect(f":{port} ready>")
    terminal.say("false")
    terminal.do("echo status $status" if shell == "fish" else "echo status $?")
    terminal.expect(f":{port} ready>")
    assert "status 1" in terminal.screen()
    house.portctl("release", "web", cwd=shop)
    terminal.expect("ready>")
    assert "rror" not in terminal.screen() and "unbound" not in terminal.screen()


@pytest.mark.parametrize("shell", ("bash", "zsh"))
def test_aliases_live_on_after_the_hook_was_read(house, open_terminal, shell):
    terminal = open_terminal(shell, house.home, before="alias greet='echo good morning'\n", after="greet\nsaid=$(eval 'greet'); echo \"[$said]\"\n")
    terminal.expect("ready>")
    terminal.do("greet")
    assert "good morning" in terminal.screen()


@pytest.mark.parametrize("before, after", [("", "PROMPT_COMMAND+=$'\\necho \"seen $?\"'"), ("PROMPT_COMMAND=(true)", "PROMPT_COMMAND+=('echo \"seen $?\"')")])
def test_a_shell_that_ends_with_the_first_mistake_does_not_end_with_the_hook(house, open_terminal, before, after, served):
    shop, port = served
    terminal = open_terminal("bash", shop, before=f"{before}\n", after=f"set -e\n{after}\n")
    terminal.expect(f":{port} ready>")
    # The status that a later entry sees is the command's; its prompt looks like the one before it.
    for command, status in (("[[ a = b ]] && echo x", 1), ("(exit 7) || (exit 9) && true", 9)):
        terminal.say(command)
        wait_until(lambda: terminal.screen().endswith(f"{command}\nseen {status}\n:{port} ready>"), terminal.screen)
    terminal.say(f"trap 'echo $? > {house.home}/left' EXIT")
    wait_until(lambda: terminal.screen().endswith(f"EXIT\nseen 0\n:{port} ready>"), terminal.screen)
    terminal.say("(exit 5)")
    wait_until(lambda: (house.home / "left").exists() and (house.home / "left").read_text() == "5\n", "the shell ends with 5")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_virtualenv_comes_and_goes_without_keeping_a_number(house, open_terminal, shell):
    """Its activation keeps a copy of the prompt, which deactivate brings back."""
    shop = house.project("shop", files={"package.json": "{}"})
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", house.home / "venv"], check=True)
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    terminal = open_terminal(shell, shop)
    terminal.expect(f":{port} ready>")
    for _ in range(2):
        terminal.say("source ~/venv/bin/activate" + (".fish" if shell == "fish" else ""))
        terminal.expect(rf":{port} \(venv\) ready>" if shell == "zsh" else rf"\(venv\) :{port} ready>")
        # The start file once more: the prompt is the virtualenv's now.
        terminal.say(INIT[shell].strip())
        port += 5
        house.ask("update", "web", "--port", str(port), cwd=shop)
        terminal.expect(rf":{port} \(venv\) ready>" if shell == "zsh" else rf"\(venv\) :{port} ready>")
        terminal.say("deactivate")
        terminal.expect(f":{port} ready>")
    house.portctl("release", "web", cwd=shop)
    terminal.expect("ready>")
    assert "rror" not in terminal.screen()


@pytest.mark.parametrize("shell", SHELLS)
def test_an_agent_that_has_ended_and_was_not_waited_for_shows_nothing(house, open_terminal, shell):
    """Its process is still in /proc, as a zombie: in a container whose first process reaps nobody it stays there."""
    shop = house.project("shop", files={"package.json": "{}"})
    agent = subprocess.Popen([house.prefix / "bin" / "portwrap-agent"], env=house.env)
    try:
        wait_until(house.socket.exists, "the agent's socket")
        port = house.ask("get", "web", cwd=shop)["lease"]["port"]
        terminal = open_terminal(shell, shop)
        terminal.expect(f":{port} ready>")
        assert house.agent_pids() == [agent.pid]
        agent.kill()
        os.waitid(os.P_PID, agent.pid, os.WEXITED | os.WNOWAIT)
        terminal.expect("ready>")
        assert house.portctl("prompt", cwd=shop).stdout == ""
        assert os.path.exists(f"/proc/{agent.pid}/stat"), "it is there all the time"
    finally:
        agent.kill()
        agent.wait()


def test_the_guides_line_for_tmux_shows_the_segment_of_any_directory_and_runs_nothing_of_its_name(house, open_terminal):
    line = re.search(r"`(#\(portctl prompt [^`]*\))` in its", GUIDE.read_text())[1]
    names = ["two  blanks", "it's", "a'; touch pwned; '", '$(touch pwned) `touch pwned` "', "#(touch pwned) \\;x"]
    inner = open_terminal("bash", house.home, env={f"DIR{index}": str(house.home / name) for index, name in enumerate(names)})
    inner.tmux("set-option", "-g", "status-right", f"[{line}]")
    inner.tmux("set-option", "-g", "status-interval", "1")
    # Somebody must look at it: a terminal in which it is attached.
    outer = open_terminal("bash", house.home, inside=("sh", "-c", f"env -u TMUX tmux -S {inner.socket} attach"))
    for index, name in enumerate(names):
        port = house.ask("get", "web", cwd=house.project(name, files={"package.json": "{}"}))["lease"]["port"]
        inner.do(f'cd -- "$DIR{index}"')
        wait_until(lambda: f"[~:{port}]" in outer.screen(), lambda: f"{name!r}, :{port}:\n{outer.screen()}")
    assert list(house.directory.rglob("pwned")) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_a_link_that_leads_elsewhere_now_and_a_directory_that_was_moved(house, open_terminal, shell):
    shop = house.project("shop", files={"package.json": "{}"})
    blog = house.project("blog", files={"package.json": "{}"})
    first = int(house.portctl("get", "web", cwd=shop).stdout)
    second = int(house.portctl("get", "web", cwd=blog).stdout)
    link = house.home / "current"
    link.symlink_to(shop)
    terminal = open_terminal(shell, house.home)
    terminal.do(f"cd {link}")
    terminal.expect(f":{first} ready>")
    terminal.do(f"ln -sfn {blog} {link}")
    terminal.expect(f":{first} ready>")
    terminal.do(f"cd {link}")
    terminal.expect(f":{second} ready>")
    if shell != "fish":  # which looks anew when it changes its directory
        terminal.do(f"cd {shop}")
        terminal.expect(f":{first} ready>")
        terminal.do(f"mv {shop} {shop}.old; mv {blog} {shop}")
        terminal.expect("ready>")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_number_of_a_dead_agent_that_is_another_programs_now(house, open_terminal, shell, served):
    shop, port = served
    terminal = open_terminal(shell, shop)
    terminal.expect(f":{port} ready>")
    file = house.runtime / "portwrap" / ("prompt" + str(shop).replace("/", "/@")) / "segment"
    text = file.read_text()
    file.write_text(f"{text.splitlines()[0]}\n{os.getpid()}\n")
    terminal.expect("ready>")
    assert house.portctl("prompt", cwd=shop).stdout == ""
    file.write_text(text)
    terminal.expect(f":{port} ready>")


def test_fishs_prompt_sees_the_status_of_each_part_of_a_pipeline(house, open_terminal, served):
    shop, port = served
    terminal = open_terminal("fish", shop, after="function fish_prompt\n    echo -n \"[$pipestatus/$status] ready> \"\nend\nportctl init fish | source\n")
    terminal.expect(rf":{port} \[0/0\] ready>")
    for command, seen in (("true", "0/0"), ("true | false", "0 1/1"), ("sh -c 'exit 3' | false | true", "3 1 0/0"), ("not true", "1/1"),
                          ("true | true | false | sh -c 'exit 7'", "0 0 1 7/7"), ("true | true | true | true | sh -c 'exit 7'", "7/7")):
        terminal.say(command)
        wait_until(lambda: re.search(rf"{re.escape(command)} *\n:{port} \[{re.escape(seen)}\] ready>", terminal.screen()),
                   lambda: f"{command}: {seen}\n{terminal.screen()}")


@pytest.mark.parametrize("follow", ("", "\nPROMPT_COMMAND+=$'\\ntrue'"))
def test_a_shell_that_inherits_the_prompts_command_without_the_hook_says_nothing(house, open_terminal, follow, served):
    shop, port = served
    terminal = open_terminal("bash", shop, before="export PS1 PROMPT_COMMAND='mine=1'\n", after=f"{follow}\nPS1='ready> '\n")
    terminal.expect(f":{port} ready>")
    for options in ("", " -u", " -e", " -o posix"):
        terminal.say(f"bash --norc{options}")
        terminal.expect("ready>")
        terminal.do("echo $mine")
        terminal.expect("ready>")
        assert "not found" not in terminal.screen() and "unbound" not in terminal.screen(), terminal.screen()
        terminal.say("exit")
        terminal.expect(f":{port} ready>")


def test_a_zsh_that_names_directories_by_parameters_gets_no_names_from_the_hook(house, open_terminal, served):
    shop, port = served
    terminal = open_terminal("zsh", shop, before="setopt auto_name_dirs\n", after="PROMPT='%~ ready> '\n")
    for _ in range(2):
        terminal.expect(rf":{port} ~/shop ready>")
        terminal.do(f"cd {house.runtime}/portwrap")
        terminal.expect(rf"{house.runtime}/portwrap ready>")
        terminal.do(f"cd {shop}")
    terminal.do("hash -d")
    assert "__portwrap" not in terminal.screen(), terminal.screen()


@pytest.mark.parametrize("shell, prompt", [
    ("bash", "PS1=$'\\n[two]\\nready> '"), ("bash", "PS1=$'\\n\\\\n\\n[two]\\nready> '"), ("zsh", "PROMPT=$'\\n[two]\\nready> '")])
def test_a_prompt_of_two_lines_behind_an_empty_one_has_the_segment_in_its_first(house, open_terminal, shell, prompt, served):
    shop, port = served
    terminal = open_terminal(shell, shop, after=f"{prompt}\n")
    terminal.expect("ready>")

    def seen():
        if terminal.screen().splitlines()[-3:] == ["", f":{port} [two]", "ready>"]:
            return True
        terminal.key("Enter")  # the agent publishes it in a moment
        return False

    wait_until(seen, terminal.screen)


def test_the_previous_directory_is_exported_as_in_a_shell_without_the_hook(house, open_terminal, served):
    shop, port = served
    terminal = open_terminal("bash", shop, before="unset OLDPWD; declare -x OLDPWD\n")
    terminal.expect(f":{port} ready>")
    terminal.do("env | grep -c OLDPWD; declare -p OLDPWD")
    assert "\n0\ndeclare -x OLDPWD\n" in terminal.screen(), terminal.screen()
    terminal.do("cd ..")
    terminal.do("env | grep OLDPWD")
    assert f"\nOLDPWD={shop}\n" in terminal.screen(), terminal.screen()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_directory_that_becomes_a_project_under_the_shells_feet(house, open_terminal, shell):
    shop = house.project("shop", files={"package.json": "{}", "sub/file": ""})
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    terminal = open_terminal(shell, shop / "sub")
    terminal.expect(f":{port} ready>")
    for become, be_no_more in (("git init -q", "rm -rf .git"), ("echo {} > .portwrap.json", "rm .portwrap.json")):
        terminal.do(become)
        terminal.expect("ready>")
        terminal.do(be_no_more)
        terminal.expect(f":{port} ready>")


def test_a_prompts_reference_is_nothing_in_a_shell_without_the_hook(house, open_terminal, served):
    shop, port = served
    terminal = open_terminal("bash", shop, after="export PS1\n")
    terminal.expect(f":{port} ready>")
    terminal.say("bash --norc -u")
    terminal.expect("ready>")
    terminal.say("exec sh -u")
    terminal.expect("ready>")


@pytest.mark.parametrize("shell", ("bash", "zsh"))
def test_a_line_is_as_wide_as_it_looks(house, open_terminal, shell, served):
    """What switches to dim and back has no width: a long line is broken where the terminal ends."""
    shop, port = served
    terminal = open_terminal(shell, shop)
    terminal.tmux("resize-window", "-x", "40", "-y", "20")
    terminal.expect(f":{port} ready>")
    terminal.type("x" * 60)
    terminal.key("C-a")
    terminal.type("AB")
    line = f":{port} ready> AB" + "x" * 60
    wait_until(lambda: terminal.tmux("capture-pane", "-p").rstrip().endswith(f"{line[:40]}\n{line[40:]}"), terminal.screen)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_worktree_of_a_submodule_is_a_project_and_a_submodule_of_a_worktree_is_none(house, open_terminal, shell):
    above = house.project("above", files={"package.json": "{}"})
    below = house.project("below", files={"package.json": "{}"})
    for root in (above, below):
        house.git(root, "init", "-q")
        house.git(root, "add", ".")
        house.git(root, "commit", "-q", "-m", "first")
    house.git(above, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(below), "sub")
    house.git(above, "commit", "-q", "-m", "second")
    inner = above / "inner"
    house.git(above / "sub", "worktree", "add", "-q", "-b", "inner", str(inner))
    linked = house.home / "linked"
    house.git(above, "worktree", "add", "-q", "-b", "linked", str(linked))
    house.git(linked, "-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init")
    ports = {root: int(house.portctl("get", "web", cwd=root).stdout) for root in (inner, linked)}
    terminal = open_terminal(shell, inner)
    terminal.expect(f":{ports[inner]} ready>")
    terminal.do(f"cd {linked}/sub")
    terminal.expect(f":{ports[linked]} ready>")
    assert house.portctl("prompt", cwd=inner).stdout == f"~:{ports[inner]}\n"
    assert house.portctl("prompt", cwd=linked / "sub").stdout == f"~:{ports[linked]}\n"


@pytest.mark.parametrize("shell, before", [
    ("zsh", "setopt prompt_subst\nRPROMPT='${PORTWRAP_PROMPT}'\n"),
    ("fish", "function fish_right_prompt\n    echo -n \"$PORTWRAP_PROMPT\"\nend\n")])
def test_a_segment_on_the_right_is_not_on_the_left_too(house, open_terminal, shell, before, served):
    shop, port = served
    terminal = open_terminal(shell, shop, before=before)
    terminal.expect(rf"ready> +:{port}")


def test_a_quoted_prompt_keeps_its_quotes_and_the_status(house, open_terminal, served):
    shop, port = served
    terminal = open_terminal("bash", shop, after="PS1=\"'\\\"\\$?\\\"' ready> \"\n")
    terminal.say("false")
    terminal.expect(rf""":{port} '"1"' ready>""")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_prompt_starts_no_process_and_does_nothing_slow(house, listener, shell):
    main, linked = house.worktrees("repo", files={"package.json": "{}"})
    serve(house, listener, main, 3000)
    wait_until(lambda: house.portctl("prompt", cwd=main).stdout == ":3000\n", "the segment")
    hook = "__portwrap_update" if shell == "fish" else "__portwrap_hook"
    init = house.portctl("init", shell).stdout
    plain = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]

    def calls(body):
        """The system calls of a script, of all its threads and children; without what waits for other threads."""
        trace, script = house.directory / "trace", house.home / "script"
        script.write_text(f"{init}\ncd {main}\n{hook}\n{body}\necho \"[$PORTWRAP_PROMPT]\"\n")
        done = house.run("strace", "-f", "-qq", "-e", "signal=none", "-o", trace, shell, *plain, script)
        assert "[:3000 ]" in done.stdout, (done.stdout, done.stderr)
        made = [match.groups() for match in re.finditer(r"^\d+ +(\w+)\((.*)$", trace.read_text(), re.M)]
        return [(name, rest) for name, rest in made if name not in ("futex", "restart_syscall", "exit", "exit_group")]

    hooks = 50
    without = calls("")
    with_hooks = calls(f"{hook}\n" * hooks)
    moving = calls(f"cd {linked}\n{hook}\ncd {main}\n{hook}\n" * hooks)
    for made in (with_hooks, moving):
        started = [call for call in made if call[0] in ("fork", "vfork", "clone", "clone3", "execve") and "CLONE_THREAD" not in call[1]]
        assert len(started) == 1, f"nothing but the shell itself: {started}"
        # The shells ask for the user's name when they start, and some of them for more.
        slow = ("socket", "connect", "fsync", "fdatasync", "nanosleep", "clock_nanosleep", "getdents64")
        assert [name for name, _ in made if name in slow] == [name for name, _ in without if name in slow]
    # What a prompt needs: is the directory the same, is the file there, open, read (zsh: byte by byte, the agent's pid may have seven), close, is the agent
    # there, open, read its name, close; and the shells' way of redirecting.
    each = (len(with_hooks) - len(without)) / hooks
    assert each <= {"bash": 56, "zsh": 140, "fish": 60}[shell], f"{each} system calls a prompt"
    opened = [rest.split('"')[1] for name, rest in with_hooks if name in ("open", "openat") and '"' in rest]
    mine = [path for path in opened if opened.count(path) >= hooks]
    assert set(mine) <= {str(house.runtime / "portwrap" / ("prompt" + str(main).replace("/", "/@")) / "segment"), f"/proc/{house.agent_pid()}/comm", "/dev/null"}, set(mine)


def test_the_starship_module_is_one_that_starship_reads(house):
    """Without starship, which neither Debian 12 nor npm has: the keys are those of its custom modules, and the command, run as it runs it, prints the segment."""
    module = tomllib.loads('[character]\nformat = "> "\n' + house.portctl("init", "starship").stdout)["custom"]["portwrap"]
    known = {"format", "symbol", "command", "when", "require_repo", "shell", "description", "style", "disabled", "detect_files", "detect_extensions",
             "detect_folders", "os", "use_stdin", "ignore_timeout", "unsafe_no_escape"}
    assert set(module) <= known
    assert re.fullmatch(r"\(\[\$output\]\(\$style\) \)", module["format"]), "one conditional group: nothing at all without output"
    shop = house.project("shop", files={"package.json": "{}"})
    port = house.ask("get", "web", cwd=shop)["lease"]["port"]
    wait_until(lambda: house.portctl("prompt", cwd=shop).stdout, "the segment")
    for words, stdin in (([*module["shell"], "-c", module["command"]], b""), (module["shell"], module["command"].encode())):
        assert house.run(*words, cwd=shop, stdin=stdin).stdout.strip() == f"~:{port}"
        assert house.run(*words, cwd=house.home, stdin=stdin).stdout == ""


def test_portctl_prompt_has_a_format_and_no_effects(house):
    shop = house.project("shop", files={"package.json": "{}", "sub/file": ""})
    assert house.portctl("prompt", "--format", "[{segment}]", cwd=shop).stdout == ""
    assert house.agent_pids() == [] and not (house.runtime / "portwrap").exists()
    port = house.ask("get", "web", cwd=shop)["lease"]["port"]
    wait_until(lambda: house.portctl("prompt", cwd=shop).stdout == f"~:{port}\n", "the segment")

    def say(text, *words, cwd=shop):
        done = house.portctl("prompt", "--format", text, *words, cwd=cwd)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout
    assert say("{port}") == str(port)
    assert say(r"on {segment}\n\t{port} ", cwd=shop / "sub") == f"on ~:{port}\n\t{port} "
    assert say("100% {unknown}") == "100% {unknown}"
    assert say("[{port}]", "-C", str(shop), cwd=house.home) == say("[{port}]", "--project", str(shop), cwd=house.home) == f"[{port}]"
    assert say("{port}", cwd=house.home) == ""
    assert house.ask("prompt", cwd=shop)["segment"] == f"~:{port}"
    assert house.ask("prompt", cwd=house.home)["segment"] is None
    assert say("{port}", "--project", "shop", cwd=house.home) == say("{port}", "--project", "./shop", cwd=house.home) == str(port)
    assert say(r"\\n{{port}}\{segment}\\\t") == f"\\n{{{port}}}\\~:{port}\\\t"
    unknown = house.portctl("prompt", "--project", "shoe", cwd=shop)
    assert (unknown.returncode, unknown.stdout) == (3, "") and "shoe" in unknown.stderr
    pid = house.agent_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert say("{port}") == str(port), "it asks nobody"
    finally:
        os.kill(pid, signal.SIGCONT)
    house.stop_agent()
    assert say("{port}", "--project", "shop") == "" and house.agent_pids() == [], "nobody to ask for the name"
