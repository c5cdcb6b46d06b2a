"""Completions: what portctl offers for a command line, and the same typed with TAB in real shells (tmux)."""

import json
import os
import re
import signal
import stat

import pytest

from house import wait_until
from terminal import Terminal

SHELLS = ("bash", "zsh", "fish")


def offered(house, *words, cwd=None, program="portctl"):
    """{value: description} and the directives that `portctl _complete` prints for the words up to the cursor."""
    done = house.run("portctl", "_complete", program, *words, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    return (dict(line.split("\t", 1) for line in lines if not line.startswith(":")),
            [line for line in lines if line.startswith(":")])


def values(house, *words, cwd=None, program="portctl"):
    return list(offered(house, *words, cwd=cwd, program=program)[0])


def listed_commands(house):
    text = house.portctl("help").stdout
    return re.findall(r"^  ([a-z]+) +\S", text[text.index("Commands:"):text.index("Global options:")], re.MULTILINE)


def listed_options(text):
    """[(names, label)] of a --help."""
    return [(names.split(","), label) for names, label in re.findall(r"^  (-[-\w,]+)(?: ([\S]+))?  ", text, re.MULTILINE)]


# -- what is offered


def test_every_command_is_offered(house):
    commands = listed_commands(house)
    assert {"port", "list", "release", "completion", "help"} <= set(commands)
    assert values(house, "") == commands
    assert values(house, "help", "") == commands
    for command in commands:
        assert command in values(house, command[:2])


def test_every_option_of_every_command_is_offered(house):
    for command in listed_commands(house):
        options = listed_options(house.portctl(command, "--help").stdout)
        assert {("-h", "--help"), ("--json",), ("--all",)} <= {tuple(names) for names, _ in options}, command
        by_dash = values(house, command, "-")
        for names, _ in options:
            assert names[-1] in by_dash, (command, names)
            for name in names:
                assert name in values(house, command, name), (command, name)


def test_every_option_of_portwrap_is_offered(house):
    options = listed_options(house.run("portwrap", "--help").stdout)
    assert len(options) > 10
    for names, _ in options:
        for name in names:
            assert name in values(house, name, program="portwrap"), name


def test_every_set_of_values_in_a_help_is_offered(house):
    """Options that are checked against a set, and words such as start|stop."""
    seen = 0
    for command in listed_commands(house):
        text = house.portctl(command, "--help").stdout
        for words in re.findall(r"^  ((?:[a-z]+\|)+[a-z]+)(?: |$)", text, re.MULTILINE):
            assert values(house, command, "") == words.split("|"), command
            seen += 1
    assert seen >= 5
    assert values(house, "list", "--format", "") == ["table", "json", "csv", "markdown"]
    assert values(house, "list", "--format=c") == ["--format=csv"]
    assert values(house, "export", "--format", "m") == ["markdown"]
    assert values(house, "agent", "log", "--level", "") == ["debug", "info", "warn", "error"]
    assert values(house, "get", "web", "--protocol", "") == ["tcp", "udp"]
    assert "active,conflict" in values(house, "list", "--state", "active,")
    assert "active,active" not in values(house, "list", "--state", "active,")
    assert "--state=active,conflict,active" not in values(house, "list", "--state=active,conflict,")
    assert "--state=active,conflict,reserved" in values(house, "list", "--state=active,conflict,")


def test_an_option_that_was_given_is_not_offered_again_unless_it_may_be(house):
    assert "--orphans" not in values(house, "list", "--orphans", "-")
    assert "--map" in values(house, "import", "f", "--map", "a=b", "-")


def test_files_and_directories_are_left_to_the_shell(house):
    assert offered(house, "import", "") == ({}, [":files"])
    assert offered(house, "export", "-o", "x")[1] == [":files"]
    assert offered(house, "-C", "")[1] == [":directories"]
    assert offered(house, "list", "--project", "/u")[1] == [":directories"]


def test_words_after_the_last_and_after_two_dashes_offer_nothing(house):
    assert offered(house, "check", "3000", "3") == ({}, [])
    assert offered(house, "list", "--", "-") == ({}, [])
    assert offered(house, "no-such-command", "") == ({}, [])


@pytest.mark.parametrize("words,at", [
    (["np"], 1), ([""], 1), (["npm", "run", ""], 1), (["-n", "npm", ""], 2), (["-p", "3000", "npm", ""], 3), (["-p3000", "npm"], 2),
    (["--port=3000", "npm", "-"], 2), (["--", "npm", ""], 2), (["--", ""], 2), (["-qv", "npm", "x"], 2)])
def test_the_command_that_portwrap_runs_is_left_to_the_shell(house, words, at):
    assert offered(house, *words, program="portwrap") == ({}, [f":command {at}"])


# -- live values


@pytest.fixture
def shop(house):
    root = house.project("shop", files={".portwrap.json": json.dumps({"name": "the shop", "services": {"web": {"port": 3000}, "queue": {}}})})
    house.portctl("get", "web", cwd=root)
    return root


def test_services_ports_ranges_projects_and_templates_are_the_agents(house, shop):
    port = str(house.port(shop, "web"))
    found, _ = offered(house, "release", "", cwd=shop)
    assert list(found) == [port, "web", "queue"]
    assert found["web"] == f"{port} allocated"
    assert values(house, "port", "", cwd=house.home) == []
    assert values(house, "-C", str(shop), "port", "w", cwd=house.home) == ["web"]
    assert values(house, "port", "--project", "the shop", "w", cwd=house.home) == ["web"]
    assert "the shop" in values(house, "list", "--project", "", cwd=house.home)
    assert values(house, "check", "", cwd=house.home) == [port]
    ranges = [entry["name"] for entry in house.ask("ranges", cwd=shop)["ranges"]]
    assert values(house, "next", "", cwd=shop) == ranges
    assert values(house, "-r", "node", program="portwrap") == ["node"]
    templates = [entry["kind"] for entry in house.ask("template", "--list")["templates"]]
    assert values(house, "template", "", cwd=shop) == templates
    assert values(house, "template", templates[0], "", cwd=shop) == ["web", "queue"]
    assert {"node", "python"} <= set(values(house, "get", "x", "--type", "", cwd=shop))
    assert {"web", "api", "database"} <= set(values(house, "get", "x", "--kind", "", cwd=shop))
    assert {"dev", "test", "production"} <= set(values(house, "list", "--env", "", cwd=shop))


def test_worktrees_are_offered_by_branch_and_namesakes_by_path(house):
    main, fix = house.worktrees("blog", files={"package.json": '{"name": "blog"}'})
    for root in (main, fix):
        house.portctl("get", "web", cwd=root)
    assert sorted(values(house, "list", "--worktree", "", cwd=main)) == ["fix", "main"]
    assert sorted(values(house, "list", "--project", "", cwd=main)) == sorted([str(main), str(fix)])


def test_no_agent_is_started_and_a_silent_one_is_not_waited_for(house, shop):
    house.stop_agent()
    assert values(house, "release", "", cwd=shop) == []
    assert values(house, "list", "--state", "act", cwd=shop) == ["active"]
    assert house.agent_pids() == []
    house.start_agent()
    pid = house.agent_pid()
    os.kill(pid, signal.SIGSTOP)
    assert values(house, "release", "", cwd=shop) == []
    os.kill(pid, signal.SIGCONT)


def test_without_a_usable_runtime_directory_nothing_is_offered_and_nothing_said(house):
    done = house.run("portctl", "_complete", "portctl", "port", "", env={"XDG_RUNTIME_DIR": "/nowhere/" + "x" * 200})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- in the shells

PROMPT = {"bash": "PS1='ready> '\n", "zsh": "PROMPT='ready> '\nunsetopt PROMPT_SP\n",
          "fish": "set -g fish_greeting\nset -g fish_autosuggestion_enabled 0\nfunction fish_prompt\n    printf 'ready> '\nend\n"}


def settings(house, shell, way):
    share = house.prefix / "share"
    start = {
        ("bash", "printed"): 'eval "$(portctl completion bash)"\n',
        ("bash", "installed"): ". /usr/share/bash-completion/bash_completion\n",
        ("zsh", "printed"): 'whence compdef > /dev/null || { autoload -Uz compinit; compinit -u; }; eval "$(portctl completion zsh)"\n',
        ("zsh", "installed"): f"fpath=('{share}/zsh/site-functions' $fpath); autoload -Uz compinit; compinit -u\n",
        ("fish", "printed"): "portctl completion fish | source\n",
        ("fish", "installed"): "",
    }[shell, way]
    return PROMPT[shell] + start


@pytest.fixture
def open_terminal(house):
    terminals = []

    def open_one(shell, way, cwd, before=""):
        share = "/usr/local/share:/usr/share"
        if way == "installed":
            share = f"{house.prefix}/share:{share}"
        elif shell == "fish":
            # Nothing that is installed may help.
            share = "/nowhere"
        terminals.append(Terminal(house, shell, before + settings(house, shell, way), cwd, {"XDG_DATA_DIRS": share}))
        wait_until(lambda: terminals[-1].last_line().endswith("ready>"), lambda: terminals[-1].screen())
        return terminals[-1]
    yield open_one
    for terminal in terminals:
        terminal.close()


def complete(terminal, typed, expected):
    """TAB after `typed` makes it `expected`."""
    terminal.key("C-u")
    wait_until(lambda: terminal.last_line().strip().endswith("ready>"), lambda: "an empty line:\n" + terminal.screen())
    terminal.type(typed)
    wait_until(lambda: "ready> " + typed.rstrip() in terminal.screen(), lambda: "what was typed:\n" + terminal.screen())
    terminal.key("Tab")
    wait_until(lambda: re.search(r"ready> " + re.escape(expected) + r"\s*$", terminal.screen(), re.MULTILINE),
               lambda: f"{expected!r} after {typed!r} and TAB:\n{terminal.screen()}")


@pytest.mark.parametrize("way", ("printed", "installed"))
@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_in_a_real_shell(house, shop, open_terminal, shell, way):
    program = house.home / "bin" / "unusual-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    house.env["PATH"] += f":{program.parent}"
    (shop / "dir with blank").mkdir()
    (shop / "table of ports.csv").write_text("")
    terminal = open_terminal(shell, way, shop)

    complete(terminal, "portctl rel", "portctl release")
    complete(terminal, "portctl release w", "portctl release web")
    complete(terminal, "portctl release --for", "portctl release --force")
    complete(terminal, "portctl list --format=c", "portctl list --format=csv")
    complete(terminal, "portctl list --format mark", "portctl list --format markdown")
    complete(terminal, "portctl list --state active,conf", "portctl list --state active,conflict")
    complete(terminal, "portctl list --project the", r"portctl list --project the\ shop")
    complete(terminal, "portctl import ta", r"portctl import table\ of\ ports.csv")
    complete(terminal, "portctl -C dir", r"portctl -C dir\ with\ blank/")
    complete(terminal, "portctl export --output=ta", r"portctl export --output=table\ of\ ports.csv")
    complete(terminal, "portwrap --dry", "portwrap --dry-run")
    complete(terminal, "portwrap --service que", "portwrap --service queue")
    complete(terminal, "portwrap --dry-run unusu", "portwrap --dry-run unusual-server")
    complete(terminal, "portwrap --port 3000 portctl rel", "portwrap --port 3000 portctl release")
    complete(terminal, "portwrap portctl release w", "portwrap portctl release web")
    complete(terminal, "portwrap -q unusual-server ta", r"portwrap -q unusual-server table\ of\ ports.csv")


NAMES = {"my service": "my", "it's mine": "it", "cost$5 `x`": "co", 'say "hi"': "say", "back\\slash": "back", "semi;colon & co": "semi", "ends in '": "ends", "a:b": "a:", "g*?[x]": "g", "naïve ü": "na"}


@pytest.mark.parametrize("way", ("printed", "installed"))
@pytest.mark.parametrize("shell", SHELLS)
def test_what_tab_makes_of_any_name_is_that_name(house, open_terminal, shell, way):
    """Without a quote and inside of both kinds: the line that TAB has completed means the service when it is entered."""
    shop = house.project("shop")
    ports = {name: house.ask("get", name, cwd=shop)["lease"]["port"] for name in NAMES}
    terminal = open_terminal(shell, way, shop)
    for name, beginning in NAMES.items():
        for quote in ("", "'", '"'):
            terminal.say("clear")
            wait_until(lambda: terminal.screen().strip() == "ready>", terminal.screen)
            terminal.type(f"portctl port {quote}{beginning}")
            wait_until(lambda: terminal.screen().endswith(f"{quote}{beginning}"), terminal.screen)
            terminal.key("Tab")
            terminal.key("Enter")
            wait_until(lambda: terminal.screen().endswith("ready>") and terminal.screen() != "ready>", terminal.screen)
            assert terminal.screen().splitlines()[1] == str(ports[name]), terminal.screen()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_quote_in_the_middle_of_a_word_and_options_with_a_value(house, shop, open_terminal, shell):
    house.portctl("get", "my api", cwd=shop)
    terminal = open_terminal(shell, "printed", shop)
    made = {
        "bash": ('my" api"', '--project="the shop"', r"my\ api"), "zsh": (r"my\ api", r"--project=the\ shop", r"my\ api"),
        "fish": ('my" api"', '--project="the shop"', r"my\ api")}[shell]
    complete(terminal, 'portctl release my" a', f"portctl release {made[0]}")
    complete(terminal, 'portctl list --project="the', f"portctl list {made[1]}")
    complete(terminal, r"portctl release my\ a", f"portctl release {made[2]}")
    complete(terminal, "portwrap --service 'my", "portwrap --service 'my api'")
    complete(terminal, 'portwrap -q portctl release "my', 'portwrap -q portctl release "my api"')


@pytest.mark.parametrize("shell", ("bash", "zsh"))
def test_aliases_that_were_made_before_are_not_in_the_completions(house, shop, open_terminal, shell):
    words = {"bash": ("builtin", "shopt", "local", "mapfile", "declare", "compopt", "printf", "complete", "compgen", "command", "break", "continue"),
             # zsh's own completions do not survive one called local or setopt.
             "zsh": ("builtin", "integer", "shift", "command", "compset", "compdef", "break")}[shell]
    house.home.joinpath("aliases").write_text("".join(f"alias {word}=false\n" for word in words) + ("alias -g line=LINE value=VALUE values=V\n" if shell == "zsh" else ""))
    terminal = open_terminal(shell, "printed", shop, before="autoload -Uz compinit; compinit -u\n. ~/aliases\n" if shell == "zsh" else ". ~/aliases\n")
    complete(terminal, "portctl release w", "portctl release web")
    complete(terminal, "portwrap --dry", "portwrap --dry-run")


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_without_an_agent_prints_nothing_and_starts_none(house, open_terminal, shell):
    shop = house.project("quiet")
    terminal = open_terminal(shell, "printed", shop)
    terminal.type("portctl release w")
    terminal.key("Tab")
    complete(terminal, "portctl doc", "portctl doctor")
    assert "error" not in terminal.screen().lower()
    assert house.agent_pids() == []
