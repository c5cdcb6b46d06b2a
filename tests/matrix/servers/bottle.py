"""bottle with its reloader: the parent watches, a child binds."""
from server import Server

SERVER = Server(
    port=8080, type="python", needs=("python: bottle",), commands=[["python3", "main.py"]], same_output=False,
    files={
        "requirements.txt": "bottle\n",
        "main.py": """import bottle


@bottle.route("/")
def content():
    return "@CONTENT@"


bottle.run(host="localhost", port=8080, reloader=True)
"""})
