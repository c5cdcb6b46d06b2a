"""flask run --debug: the reloader's child inherits the socket across exec."""
from server import Server

SERVER = Server(
    port=5000, type="python", ci=True, commands=[["python3", "-m", "flask", "--app", "app", "--debug", "run"]], same_output=False,
    files={
        "requirements.txt": "flask\n",
        "app.py": """import flask
app = flask.Flask(__name__)


@app.get("/")
def content():
    return "@CONTENT@"
"""})
