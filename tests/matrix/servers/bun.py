"""bun: a program of its own, in Zig, which binds through libc."""
from server import Server

SERVER = Server(
    port=3000, modules=("more",), commands=[["npm", "run", "dev"]],
    files={
        "package.json": '{"name": "app", "scripts": {"dev": "node_modules/@oven/bun-linux-x64/bin/bun server.js"}}\n',
        "server.js": """const server = Bun.serve({ port: 3000, fetch: () => new Response("@CONTENT@") });
console.log(`listening on http://localhost:${server.port}`);
"""})
