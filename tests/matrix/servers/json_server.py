"""json-server, which prints the URL that it was told; as the API of a front end."""
from server import Server

SERVER = Server(
    port=3000, modules=("more",), commands=[["npx", "json-server", "--quiet", "db.json"]], page="/posts", same_output=False,
    files={
        "package.json": '{"name": "app", "dependencies": {"json-server": "0.17"}}\n',
        "db.json": '{"posts": [{"id": 1, "title": "@CONTENT@"}]}\n'})
