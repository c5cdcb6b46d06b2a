"""browser-sync connects to find out which ports are free, serves on 3000 and its own page on 3001."""
from server import Server

SERVER = Server(
    port=3000, modules=("more",), commands=[["npx", "browser-sync", "start", "--server", "--no-open"]], websocket=True, moves_itself=True, same_output=False,
    cannot={"again": "in an unrelated project it has met the others on 3000 and 3001 and chosen 3004 by itself; alone, the next time, it asks for 3000"},
    files={"package.json": '{"name": "app"}\n', "index.html": "<!doctype html><html><body><p>@CONTENT@</p></body></html>\n"})
