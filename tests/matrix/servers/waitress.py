"""waitress: threads behind one listener on all addresses."""
from server import Server
from servers.gunicorn import SERVER as GUNICORN

SERVER = Server(
    port=8080, type="python", needs=("waitress-serve",), commands=[["waitress-serve", "app:app"]], same_output=False, files=GUNICORN.files)
