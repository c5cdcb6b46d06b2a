"""The same where both read their number from the variable that .portwrap.json names, and the front end is started first."""
from dataclasses import replace

from servers.configured_api import API, FILES, SERVER as HARD_CODED, WEB

SERVER = replace(
    HARD_CODED,
    commands=[["node", "web.js"], ["node", "api.js"]],
    files={
        **FILES,
        ".portwrap.json": '{"services": {"api": {"port": 4000, "env": "API_PORT"}}, "env": {"API_URL": "http://localhost:${api}"}}\n',
        "api.js": API.replace("listen(4000)", "listen(process.env.API_PORT || 4000)"),
        "web.js": WEB.replace('"http://localhost:4000/x"', '(process.env.API_URL || "http://localhost:4000") + "/x"'),
    },
)
