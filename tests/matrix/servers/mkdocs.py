"""mkdocs serve, with live reload."""
from server import Server

SERVER = Server(
    port=8000, type="python", needs=("mkdocs",), commands=[["mkdocs", "serve"]], same_output=False,
    files={"requirements.txt": "mkdocs\n", "mkdocs.yml": "site_name: app\n", "docs/index.md": "@CONTENT@\n"})
