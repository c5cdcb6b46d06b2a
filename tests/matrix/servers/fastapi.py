"""FastAPI under uvicorn, started by the app itself."""
from server import Server

SERVER = Server(
    port=8000, type="python", needs=("python: fastapi", "python: uvicorn"), commands=[["python3", "main.py"]], same_output=False,
    files={
        "pyproject.toml": '[project]\nname = "app"\n',
        "main.py": """import fastapi
import uvicorn

app = fastapi.FastAPI()


@app.get("/")
def content():
    return "@CONTENT@"


if __name__ == "__main__":
    uvicorn.run("main:app", port=8000, reload=True)
"""})
