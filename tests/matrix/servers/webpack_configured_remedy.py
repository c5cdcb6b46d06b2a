"""webpack-dev-server with its port in its config file, and the remedy that docs/servers.md names."""
from dataclasses import replace

from servers.webpack_configured_port import SERVER as CONFIGURED

FILES = dict(CONFIGURED.files)
FILES["webpack.config.js"] = FILES["webpack.config.js"].replace("{ port: 9090 }", "{ port: 9090, client: { webSocketURL: { port: 0 } } }")
SERVER = replace(CONFIGURED, files=FILES, cannot={})
