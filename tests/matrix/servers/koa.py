"""koa, started by nodemon's modern rival: node --watch. Its port is in the code."""
from server import Server

SERVER = Server(
    port=3000, modules=("more",), commands=[["npm", "run", "dev"]],
    files={
        "package.json": '{"name": "app", "scripts": {"dev": "node --watch server.js"}, "dependencies": {"koa": "3"}}\n',
        "server.js": """const Koa = require("koa");
const app = new Koa();
app.use((context) => { context.body = "@CONTENT@"; });
const server = app.listen(3000, () => console.log(`listening on http://localhost:${server.address().port}`));
"""})
