"""An interactive shell in a pseudo-terminal."""

import contextlib
import itertools
import re
import subprocess

from house import wait_until

NUMBERS = itertools.count()


class Terminal:
    """An interactive shell in a tmux server of its own."""

    def __init__(self, house, shell, settings, cwd, env=None, inside=()):
        """`inside` is a command that runs the shell, in a place of its own."""
        self.socket = house.directory / f"tmux-{next(NUMBERS)}"
        self.done = 0  # commands that do() has entered
        self.env = {**house.env, "TERM": "xterm", "LC_ALL": "C.UTF-8", **(env or {})}
        file = house.home / {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}[shell]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(settings)
        command = {"bash": ["bash", "-i"], "zsh": ["zsh", "-i"], "fish": ["fish", "-i"]}[shell]
        env_fish = {"XDG_CONFIG_HOME": str(house.home / ".config")} if shell == "fish" else {}
        self.env.update(env_fish)
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "200", "-y", "50", "-c", str(cwd), *inside, *command)

    def tmux(self, *words):
        return subprocess.run(["tmux", "-S", str(self.socket), *words], env=self.env, check=True, capture_output=True).stdout.decode()

    def say(self, text):
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def do(self, text):
        """Enters a command and waits until it has run: its prompt may look like the one before it."""
        self.done += 1
        self.say(f"{text}; echo done-{self.done}")
        wait_until(lambda: f"done-{self.done}" in self.screen().splitlines(), lambda: f"{text!r} has run:\n{self.screen()}")

    def screen(self):
        return self.tmux("capture-pane", "-p", "-J").rstrip()

    def key(self, *names):
        self.tmux("send-keys", *names)

    def type(self, text):
        self.tmux("send-keys", "-l", text)

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
