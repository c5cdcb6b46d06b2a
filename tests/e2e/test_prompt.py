"""The ports in the prompts of real shells, each in a terminal of its own (tmux)."""

import contextlib
import os
import re
import subprocess

import pytest

from house import House, wait_until

SHELLS = ("bash", "zsh", "fish")
INIT = {"bash": 'eval "$(portctl init bash)"\n', "zsh": 'eval "$(portctl init zsh)"\n', "fish": "portctl init fish | source\n"}
PROMPT = {
    "bash": "PS1='ready> '\n", "zsh": "PROMPT='ready> '\n",
    "fish": "set -g fish_greeting\nfunction fish_prompt\n    printf 'ready> '\nend\n"}


class Terminal:
    """An interactive shell in a tmux server of its own."""

    def __init__(self, house, shell, settings, cwd, env=None):
        self.socket = house.directory / "tmux"
        self.env = {**house.env, "TERM": "xterm", "LC_ALL": "C.UTF-8", **(env or {})}
        file = house.home / {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}[shell]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(settings)
        command = {"bash": ["bash", "-i"], "zsh": ["zsh", "-i"], "fish": ["fish", "-i"]}[shell]
        env_fish = {"XDG_CONFIG_HOME": str(house.home / ".config")} if shell == "fish" else {}
        self.env.update(env_fish)
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "200", "-y", "50", "-c", str(cwd), *command)

    def tmux(self, *words):
        return subprocess.run(["tmux", "-S", str(self.socket), *words], env=self.env, check=True, capture_output=True).stdout.decode()

    def say(self, text):
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def screen(self):
        return self.tmux("capture-pane", "-p", "-J").rstrip()

    def last_line(self):
        return self.screen().splitlines()[-1] if self.screen() else ""

    def expect(self, pattern):
        """A prompt like this, if need be after an empty line has been entered again."""
        def seen():
            if re.fullmatch(pattern, self.last_line().strip()):
                return True
            if self.last_line().strip().endswith(">"):
                self.tmux("send-keys", "Enter")
            return False
        wait_until(seen, lambda: f"a prompt like {pattern!r} on the screen:\n{self.screen()}", 15)

    def close(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.tmux("kill-server")


@pytest.fixture
def open_terminal(house):
    terminals = []

    def open_one(shell, cwd, *, before="", after="", env=None):
        terminals.append(Terminal(house, shell, before + PROMPT[shell] + INIT[shell] + after, cwd, env))
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
    terminal.say("cd ..; pwd")
    terminal.expect(f":{first} ready>")
    assert str(house.home / "link") in terminal.screen()
    terminal.say('cd "$MAIN"/nested')  # a worktree of its own, without ports
    terminal.expect("ready>")
    terminal.say("cd /")
    terminal.expect("ready>")


@pytest.mark.parametrize("shell", SHELLS)
def test_silent_ports_are_marked_and_many_are_counted(house, open_terminal, shell):
    shop = house.project("shop", files={"package.json": "{}"})
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    terminal = open_terminal(shell, shop)
    terminal.expect(f":{port} ready>")
    assert "\x1b[2m" in terminal.tmux("capture-pane", "-p", "-e")
    for service in ("a", "b", "c", "d"):
        house.portctl("get", service, cwd=shop)
    terminal.expect(r":\d+ \+4 ready>")
    wait_until(lambda: re.fullmatch(r"~:\d+ \+4\n", house.portctl("prompt", cwd=shop).stdout), "portctl says the same")
    assert house.portctl("prompt", "--format", "[{port}]", cwd=shop).stdout == f"[{port}]"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_dead_agent_and_a_broken_file_show_nothing(house, open_terminal, shell):
    shop = house.project("shop", files={"package.json": "{}"})
    port = int(house.portctl("get", "web", cwd=shop).stdout)
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


@pytest.mark.parametrize("shell, before, after", [
    ("bash", "set -u\nPROMPT_COMMAND='mine=1;'\n", ""),
    ("bash", "PROMPT_COMMAND=(: 'theme')\ntheme() { PS1='ready> '; }\n", ""),
    ("bash", "IFS=:/\nset -f\n", "shopt -s nocasematch\n"),
    ("zsh", "setopt nounset ksh_arrays sh_word_split\nprecmd() { PROMPT='ready> ' }\n", ""),
    ("zsh", "setopt prompt_subst extended_glob\n", "PROMPT='${PORTWRAP_PROMPT}ready> '\n"),
])
def test_the_users_own_settings_and_the_segment_live_together(house, open_terminal, shell, before, after):
    shop = house.project("shop", files={"package.json": "{}"})
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    terminal = open_terminal(shell, shop, before=before, after=after)
    terminal.expect(f":{port} ready>")
    terminal.say("false")
    terminal.say("echo status $?")
    terminal.expect(f":{port} ready>")
    assert "status 1" in terminal.screen()
    house.portctl("release", "web", cwd=shop)
    terminal.expect("ready>")
    assert "rror" not in terminal.screen() and "unbound" not in terminal.screen()


def test_a_quoted_prompt_keeps_its_quotes_and_the_status(house, open_terminal):
    shop = house.project("shop", files={"package.json": "{}"})
    port = int(house.portctl("get", "web", cwd=shop).stdout)
    terminal = open_terminal("bash", shop, after="PS1=\"'\\\"\\$?\\\"' ready> \"\n")
    terminal.say("false")
    terminal.expect(rf""":{port} '"1"' ready>""")


@pytest.mark.parametrize("shell", SHELLS)
def test_no_process_is_started_for_a_prompt(house, listener, shell):
    main, linked = house.worktrees("repo", files={"package.json": "{}"})
    serve(house, listener, main, 3000)
    trace = house.directory / "trace"
    update = "__portwrap_update" if shell == "fish" else "__portwrap_hook"
    script = house.home / "script"
    script.write_text(
        house.portctl("init", shell).stdout
        + f"cd {main}\n" + f"{update}\n" * 3 + f"cd {linked}\n{update}\ncd {main}\n{update}\n" + 'echo "[$PORTWRAP_PROMPT]"\n')
    wait_until(lambda: house.portctl("prompt", cwd=main).stdout == ":3000\n", "the segment")
    plain = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = house.run("strace", "-f", "-qq", "-e", "trace=fork,vfork,clone,clone3,execve", "-o", trace, shell, *plain, script)
    assert "[:3000 ]" in done.stdout, (done.stdout, done.stderr)
    calls = [line for line in trace.read_text().splitlines() if "exited" not in line]
    processes = [line for line in calls if re.search(r"\b(v?fork|clone3?)\(", line) and "CLONE_THREAD" not in line]
    assert not processes, processes
