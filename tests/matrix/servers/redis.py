"""redis binds IPv4 and IPv6 apart, and prints the port that it asked for."""
from server import Server

SERVER = Server(
    port=6379, type="cache", ci=True, commands=[["redis-server", "--save", "", "--appendonly", "no", "--dir", "."]], same_output=False, protocol="redis",
    needs=("redis-server",), files={"package.json": '{"name": "app"}\n'})
