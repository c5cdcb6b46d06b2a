"""live-server puts a websocket into every page, and takes a port of the kernel's choice when its own is taken."""
from server import Server

SERVER = Server(
    port=8080, type="static", modules=("more",), commands=[["npx", "live-server", "--no-browser"]], websocket=True, same_output=False,
    files={"package.json": '{"name": "app"}\n', "index.html": "<!doctype html><html><head></head><body><p>@CONTENT@</p></body></html>\n"})
