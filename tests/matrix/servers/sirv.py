"""sirv, a static file server that asks get-port for a free number first."""
from server import Server

SERVER = Server(
    port=8080, type="static", modules=("more",), commands=[["npx", "sirv", ".", "--dev"]], same_output=False,
    files={"package.json": '{"name": "app"}\n', "index.html": "<!doctype html><p>@CONTENT@</p>\n"})
