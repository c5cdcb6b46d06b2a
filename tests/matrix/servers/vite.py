"""vite: probes three addresses, then binds ::1; its page has a websocket for hot reload."""
from server import Server

SERVER = Server(
    port=5173, ci=True, commands=[["npm", "run", "dev"]], websocket=True,
    files={
        "package.json": '{"name": "app", "type": "module", "scripts": {"dev": "vite"}, "dependencies": {"vite": "8"}}\n',
        "index.html": '<!doctype html><body>@CONTENT@<script type="module" src="/main.js"></script></body>\n',
        "main.js": 'console.log("@CONTENT@");\nif (import.meta.hot) { import.meta.hot.accept(); }\n'})
