"""vite --strictPort on a port of its own choice."""
from server import Server

SERVER = Server(
    port=3000, commands=[["npx", "vite", "--port", "3000", "--strictPort"]], websocket=True,
    files={
        "package.json": '{"name": "app", "type": "module", "dependencies": {"vite": "8"}}\n',
        "index.html": '<!doctype html><body>@CONTENT@<script type="module" src="/main.js"></script></body>\n',
        "main.js": 'console.log("@CONTENT@");\nif (import.meta.hot) { import.meta.hot.accept(); }\n'})
