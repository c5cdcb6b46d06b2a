"""hypercorn: workers are spawned with the socket's number."""
from server import Server
from servers.uvicorn_reload import SERVER as UVICORN

SERVER = Server(
    port=8000, type="python", needs=("hypercorn",), commands=[["hypercorn", "--workers", "2", "app:app"]], same_output=False,
    files={"requirements.txt": "hypercorn\n", "app.py": UVICORN.files["app.py"]})
