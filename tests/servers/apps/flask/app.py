"""An ordinary flask application: `python3 app.py` starts it with the reloader, `flask run` without."""
from pathlib import Path

from flask import Flask

app = Flask(__name__)


@app.get("/")
def content():
    return Path("content.txt").read_text()


if __name__ == "__main__":
    app.run(debug=True)
