"""concurrently runs a front end and an API in one session; the API is ready for PORT, which must not be set for both."""
from server import Server

SERVER = Server(
    port=5173, ci=True, commands=[["npm", "run", "dev"]], api="/api", api_port=4000, url_said=True, same_output=False,
    files={
        "package.json": '{"name": "app", "scripts": {"dev": "concurrently -n web,api \\"node web.js\\" \\"node api.js\\""}}\n',
        "web.js": """const http = require("http");
const server = http.createServer((request, response) => {
    if (request.url !== "/api") { return response.end("@CONTENT@"); }
    http.get("http://localhost:4000/", (answer) => answer.pipe(response)).on("error", (error) => { response.statusCode = 502; response.end(String(error)); });
});
server.listen(process.env.PORT || 5173, () => console.log(`web on http://localhost:${server.address().port}`));
""",
        "api.js": """const server = require("http").createServer((request, response) => response.end("api of @CONTENT@"));
server.listen(process.env.PORT || 4000, () => console.log(`api on http://localhost:${server.address().port}`));
"""})
