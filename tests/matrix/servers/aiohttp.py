"""aiohttp binds a port of all addresses and prints the one that it was told."""
from server import Server

SERVER = Server(
    port=8080, type="python", needs=("python: aiohttp",), commands=[["python3", "main.py"]], same_output=False,
    files={
        "requirements.txt": "aiohttp\n",
        "main.py": """from aiohttp import web


async def content(request):
    return web.Response(text="@CONTENT@")


app = web.Application()
app.router.add_get("/", content)
web.run_app(app)
"""})
