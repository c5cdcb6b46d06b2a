"""tornado binds every address of its port apart, and forks two processes that share them."""
from server import Server

SERVER = Server(
    port=8888, type="python", needs=("python: tornado",), commands=[["python3", "main.py"]], same_output=False,
    files={
        "requirements.txt": "tornado\n",
        "main.py": """import asyncio
import signal
import tornado.httpserver
import tornado.netutil
import tornado.process
import tornado.web


class Content(tornado.web.RequestHandler):
    def get(self):
        self.write("@CONTENT@")


sockets = tornado.netutil.bind_sockets(8888)
if tornado.process.fork_processes(2) is not None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


async def main():
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/", Content)]))
    server.add_sockets(sockets)
    await asyncio.Event().wait()


asyncio.run(main())
"""})
