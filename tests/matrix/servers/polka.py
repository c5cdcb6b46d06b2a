"""polka, with the port of the environment or its own."""
from server import Server

SERVER = Server(
    port=3000, modules=("more",), commands=[["node", "server.js"]],
    files={
        "package.json": '{"name": "app", "dependencies": {"polka": "0.5"}}\n',
        "server.js": """const app = require("polka")().get("/", (request, response) => response.end("@CONTENT@"));
app.listen(process.env.PORT || 3000, () => console.log(`listening on http://localhost:${app.server.address().port}`));
"""})
