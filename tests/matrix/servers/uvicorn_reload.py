"""uvicorn with reload: the parent binds, a child listens."""
from server import Server

SERVER = Server(
    port=8000, type="python", ci=True, commands=[["uvicorn", "app:app", "--reload"]], same_output=False,
    files={
        "requirements.txt": "uvicorn\n",
        "app.py": """async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"@CONTENT@"})
"""})
