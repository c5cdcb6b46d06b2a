"""vite in middleware mode: the app's own server, and hot reload on 24678, which is baked into the page."""
from server import Server

SERVER = Server(
    port=3000, commands=[["node", "server.mjs"]], websocket=True,
    files={
        "package.json": '{"name": "app", "dependencies": {"vite": "8", "express": "4"}}\n',
        "server.mjs": """import express from "express";
import { readFileSync } from "node:fs";
import { createServer } from "vite";
const app = express();
const vite = await createServer({ server: { middlewareMode: true }, appType: "custom" });
app.use(vite.middlewares);
app.use(async (request, response) => response.type("html").send(await vite.transformIndexHtml(request.originalUrl, readFileSync("index.html", "utf8"))));
const server = app.listen(3000, () => console.log(`listening on http://localhost:${server.address().port}`));
""",
        "index.html": '<!doctype html><body>@CONTENT@<script type="module" src="/main.js"></script></body>\n',
        "main.js": 'console.log("@CONTENT@");\nif (import.meta.hot) { import.meta.hot.accept(); }\n'},
    cannot={"socket": "the page's bundle contains 24678, the port that hot reload asked for, so the pages of further copies talk to the first"})
