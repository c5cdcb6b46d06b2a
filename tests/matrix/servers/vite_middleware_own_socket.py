"""vite in middleware mode whose hot reload uses the app's own HTTP server: the remedy that docs/servers.md names."""
from dataclasses import replace

from servers.vite_middleware import SERVER as MIDDLEWARE

FILES = dict(MIDDLEWARE.files)
FILES["server.mjs"] = """import express from "express";
import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "vite";
const app = express();
const server = createHttpServer(app);
const vite = await createServer({ server: { middlewareMode: true, hmr: { server } }, appType: "custom" });
app.use(vite.middlewares);
app.use(async (request, response) => response.type("html").send(await vite.transformIndexHtml(request.originalUrl, readFileSync("index.html", "utf8"))));
server.listen(3000, () => console.log(`listening on http://localhost:${server.address().port}`));
"""
SERVER = replace(MIDDLEWARE, files=FILES, cannot={})
