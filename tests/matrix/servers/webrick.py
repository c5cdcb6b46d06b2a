"""ruby -run -e httpd: WEBrick binds IPv4 and IPv6 apart."""
from server import Server

SERVER = Server(
    port=8080, type="default", needs=("ruby",), commands=[["ruby", "-run", "-e", "httpd", "--", ".", "-p", "8080"]], same_output=False,
    files={"Gemfile": 'source "https://rubygems.org"\n', "index.html": "<!doctype html><p>@CONTENT@</p>\n"})
