"""lighttpd in the foreground."""
from server import Server

SERVER = Server(
    port=8080, type="static", needs=("/usr/sbin/lighttpd",), commands=[["/usr/sbin/lighttpd", "-D", "-f", "lighttpd.conf"]], same_output=False,
    files={
        "index.html": "<!doctype html><p>@CONTENT@</p>\n",
        "lighttpd.conf": 'server.document-root = var.CWD\nserver.port = 8080\nindex-file.names = ("index.html")\nmimetype.assign = (".html" => "text/html")\n'})
