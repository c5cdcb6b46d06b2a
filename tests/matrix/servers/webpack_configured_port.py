"""webpack-dev-server with its port in webpack.config.js: no variable reaches it."""
from server import Server

SERVER = Server(
    port=9090, type="node", commands=[["npx", "webpack", "serve"]], websocket=True, same_output=False, patience=90,
    files={
        "package.json": '{"name": "app", "dependencies": {"webpack": "5", "webpack-cli": "6", "webpack-dev-server": "5"}}\n',
        "webpack.config.js": """const HtmlWebpackPlugin = require("html-webpack-plugin");
module.exports = { mode: "development", devServer: { port: 9090 }, plugins: [new HtmlWebpackPlugin({ templateContent: "<!doctype html><body>@CONTENT@</body>" })] };
""",
        "src/index.js": 'console.log("@CONTENT@");\n'},
    cannot={"socket": "the page's bundle contains the port of webpack.config.js; with client.webSocketURL.port 0 there it takes the page's"})
