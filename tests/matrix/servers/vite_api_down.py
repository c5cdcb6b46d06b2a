"""The worktree's API is not running: its front end must find nobody, as it would alone, and not the main checkout's."""
from server import Server

SERVER = Server(
    port=5173, ci=True, commands=[["npm", "run", "dev"], ["node", "api.js"]], api="/api", api_port=4000, api_down_in=1, same_output=False,
    files={
        "package.json": '{"name": "app", "type": "module", "scripts": {"dev": "vite"}, "dependencies": {"vite": "8"}}\n',
        "vite.config.js": 'export default { server: { proxy: { "/api": "http://localhost:4000" } } };\n',
        "index.html": '<!doctype html><body>@CONTENT@</body>\n',
        "api.js": """import http from "node:http";
const server = http.createServer((request, response) => response.end("api of @CONTENT@"));
server.listen(4000, () => console.log(`api on http://localhost:${server.address().port}`));
"""})
