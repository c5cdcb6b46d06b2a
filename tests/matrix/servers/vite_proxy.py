"""The worst bug: a front end whose proxy goes to localhost:4000, and an API there in every worktree."""
from server import Server

SERVER = Server(
    port=5173, ci=True, commands=[["node", "api.js"], ["npm", "run", "dev"]], api="/api", api_port=4000, websocket=True, same_output=False,
    files={
        "package.json": '{"name": "app", "type": "module", "scripts": {"dev": "vite"}, "dependencies": {"vite": "8"}}\n',
        "vite.config.js": 'export default { server: { proxy: { "/api": "http://localhost:4000" } } };\n',
        "index.html": '<!doctype html><body>@CONTENT@<script type="module" src="/main.js"></script></body>\n',
        "main.js": 'if (import.meta.hot) { import.meta.hot.accept(); }\n',
        "api.js": """import http from "node:http";
const server = http.createServer((request, response) => response.end("api of @CONTENT@"));
server.listen(4000, () => console.log(`api on http://localhost:${server.address().port}`));
"""})
