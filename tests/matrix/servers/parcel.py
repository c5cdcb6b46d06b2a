"""parcel probes ports before it binds; its hot reload shares the page's port."""
from server import Server

SERVER = Server(
    port=1234, modules=("more",), commands=[["npx", "parcel", "index.html"]], websocket=True, websocket_waits=True, same_output=False, patience=120,
    files={
        "package.json": '{"name": "app", "dependencies": {"parcel": "2"}}\n',
        "index.html": '<!doctype html><html><body>@CONTENT@<script type="module" src="main.js"></script></body></html>\n',
        "main.js": 'console.log("@CONTENT@");\nif (module.hot) { module.hot.accept(); }\n'})
