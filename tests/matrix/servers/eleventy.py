"""eleventy --serve: its reload server moves on by itself when the port is taken."""
from server import Server

SERVER = Server(
    port=8080, modules=("more",), commands=[["npx", "eleventy", "--serve"]], websocket=True, same_output=False, patience=90,
    files={
        "package.json": '{"name": "app", "dependencies": {"@11ty/eleventy": "3"}}\n',
        "index.html": "<!doctype html><html><body><p>@CONTENT@</p></body></html>\n"})
