"""An MQTT broker that binds IPv4 and IPv6 apart and says each number. As root it would become another user before it binds,
and nobody may look at it then: its file says that it stays."""
from server import Server

SERVER = Server(
    port=1883, type="default", commands=[["mosquitto", "-c", "mosquitto.conf", "-v"]], same_output=False, protocol="mqtt", needs=("mosquitto",),
    files={"README": "", "mosquitto.conf": "listener 1883\nallow_anonymous true\nuser root\n"})
