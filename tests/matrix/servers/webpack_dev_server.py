"""webpack-dev-server: eight probes, then a bind; the port that it believes in is baked into its page."""
from server import Server

SERVER = Server(
    port=8080, type="node", commands=[["npx", "webpack", "serve"]], websocket=True, same_output=False, patience=90,
    files={
        "package.json": '{"name": "app", "dependencies": {"webpack": "5", "webpack-cli": "6", "webpack-dev-server": "5"}}\n',
        "webpack.config.js": """const HtmlWebpackPlugin = require("html-webpack-plugin");
module.exports = { mode: "development", plugins: [new HtmlWebpackPlugin({ templateContent: "<!doctype html><body>@CONTENT@</body>" })] };
""",
        "src/index.js": 'console.log("@CONTENT@");\n'})
