"""gunicorn: the master binds and listens, its workers accept; with reload."""
from server import Server

SERVER = Server(
    port=8000, type="python", needs=("gunicorn",), commands=[["gunicorn", "--reload", "--workers", "2", "app:app"]], same_output=False,
    files={
        "requirements.txt": "gunicorn\n",
        "app.py": """def app(environment, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"@CONTENT@"]
"""})
