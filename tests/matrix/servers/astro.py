"""astro dev: vite behind a port of its own."""
from server import Server

SERVER = Server(
    port=4321, modules=("more",), commands=[["npm", "run", "dev"]], websocket=True, same_output=False, patience=120,
    environment={"ASTRO_TELEMETRY_DISABLED": "1"},
    files={
        "package.json": '{"name": "app", "type": "module", "scripts": {"dev": "astro dev"}, "dependencies": {"astro": "5"}}\n',
        "src/pages/index.astro": "<html><body><p>@CONTENT@</p></body></html>\n"})
