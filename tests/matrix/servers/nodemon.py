"""nodemon: a child of the watcher binds."""
from server import Server

SERVER = Server(
    port=3000, ci=True, commands=[["npm", "run", "dev"]],
    files={
        "package.json": '{"name": "app", "scripts": {"dev": "nodemon server.js"}, "dependencies": {"nodemon": "3"}}\n',
        "server.js": """const server = require("http").createServer((request, response) => response.end("@CONTENT@"));
server.listen(3000, () => console.log(`listening on http://localhost:${server.address().port}/`));
"""})
