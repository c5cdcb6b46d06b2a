"""nitro dev: a proxy on 3000 in front of a worker on a socket of its own."""
from server import Server

SERVER = Server(
    port=3000, modules=("more",), commands=[["npm", "run", "dev"]], same_output=False, patience=120,
    files={
        "package.json": '{"name": "app", "scripts": {"dev": "nitro dev"}, "dependencies": {"nitropack": "2"}}\n',
        "nitro.config.ts": 'export default defineNitroConfig({ compatibilityDate: "2025-01-01" });\n',
        "routes/index.ts": 'export default defineEventHandler(() => "@CONTENT@");\n'})
