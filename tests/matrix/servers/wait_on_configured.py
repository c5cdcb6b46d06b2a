"""wait-on beside an unrelated project whose API is on 4000, the first time: .portwrap.json says that 4000 is an own service."""
from dataclasses import replace

from servers.wait_on import SERVER as WAIT_ON

SERVER = replace(WAIT_ON, three=True, files={**WAIT_ON.files, ".portwrap.json": '{"services": {"api": {"port": 4000, "env": "API_PORT"}}}\n'})
