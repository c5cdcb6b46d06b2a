"""What one server of the matrix is: the files of its app, the commands that a user types, and what is expected. A file in
servers/ defines one as SERVER = Server(...); that is all that is needed to add one."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Server:
    port: int
    """The port that the app's page asks for by itself."""
    commands: list
    """The commands of one copy, each under a portwrap of its own, started in this order: lists of words, or "shell text"."""
    files: dict
    """Path to text. @CONTENT@ becomes the copy's own content, which its page must show."""
    type: str = "node"
    """The range that the moved copies are served from."""
    page: str = "/"
    api: str = ""
    """A path on the page's server that is answered by the copy's own API with the copy's own content, through a connection
    from the front end to the API's requested port. Empty: it has none."""
    api_port: int = 0
    """The port that the API asks for."""
    api_down_in: int = -1
    """The copy (0, 1, 2) whose API is not started (its last command): its front end must find nobody, not a sibling."""
    websocket: bool = False
    """The page opens a websocket, which must reach the page's own copy (checked in Chromium)."""
    websocket_waits: bool = False
    """It says nothing until a file changes: being open is enough."""
    url_said: bool = True
    """The copy's output, or portwrap's line, names the URL to open."""
    same_output: bool = True
    """Output is the same with and without portwrap, numbers apart."""
    moves_itself: bool = False
    """It connects to see whether its port is free, and asks for another one by itself. Siblings' servers are not seen by
    that, an unrelated project's are: there it asks for a number of its own choice."""
    three: bool = True
    """Also in a third copy, an unrelated project."""
    modules: tuple = ()
    """Directories beside this file whose node modules it needs, too: heavy, more."""
    ci: bool = False
    """Part of `run.py --ci`."""
    needs: tuple = ()
    """Programs without which it is left out."""
    protocol: str = "http"
    """How the page is fetched: http; redis or mqtt (a greeting, and the working directory as content)."""
    external: tuple = ()
    """(port, command): a program outside of portwrap that all copies share; `api` then goes through to it."""
    patience: float = 60
    """Seconds until a copy must be up."""
    cannot: dict = field(default_factory=dict)
    """Column to reason: what is known not to work. The matrix fails when it does work, so that the documentation stays true."""
    environment: dict = field(default_factory=dict)
