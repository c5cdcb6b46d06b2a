"""express with its port in the code, started by npm."""
from server import Server

SERVER = Server(
    port=3000, ci=True, commands=[["npm", "start"]],
    files={
        "package.json": '{"name": "app", "scripts": {"start": "node server.js"}, "dependencies": {"express": "4"}}\n',
        "server.js": """const app = require("express")();
app.get("/", (request, response) => response.send("@CONTENT@"));
const server = app.listen(3000, () => console.log(`listening on http://localhost:${server.address().port}`));
"""})
