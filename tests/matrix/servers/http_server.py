"""python -m http.server."""
from server import Server

SERVER = Server(
    port=8000, type="static", ci=True, commands=[["python3", "-m", "http.server"]], same_output=False,
    files={"index.html": "<!doctype html><p>@CONTENT@</p>\n"})
