"""A front end that is in no file beside an API that is the only service of .portwrap.json: it is not taken for the API, and
reaches its own copy's under the number in its code."""
from server import Server

API = """require("http").createServer((request, response) => response.end("api of @CONTENT@")).listen(4000);
"""
WEB = """const http = require("http");
const server = http.createServer((request, response) => {
  if (request.url !== "/api") return response.end("@CONTENT@");
  const fail = error => { response.statusCode = 502; response.end(error.code); };
  http.get("http://localhost:4000/x", answer => answer.pipe(response)).on("error", fail);
});
server.listen(process.env.PORT || 5173, () => console.log(`http://localhost:${server.address().port}`));
"""
FILES = {
    "package.json": '{"name": "app"}\n',
    ".portwrap.json": '{"services": {"api": {"port": 4000}}}\n',
    "api.js": API,
    "web.js": WEB,
}

SERVER = Server(port=5173, commands=[["node", "api.js"], ["node", "web.js"]], files=FILES, api="/api", api_port=4000, same_output=False, ci=True)
