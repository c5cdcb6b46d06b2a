"""twist web: Twisted's server of files."""
from server import Server

SERVER = Server(
    port=8080, type="python", needs=("twist3",), commands=[["twist3", "web", "--path", "."]], same_output=False,
    files={"requirements.txt": "twisted\n", "index.html": "<!doctype html><p>@CONTENT@</p>\n"})
