"""create-react-app: refuses a port that is not the one it asked for, so it must be told; its page has a websocket."""
from server import Server

SERVER = Server(
    port=3000, modules=("heavy",), commands=[["npm", "start"]], websocket=True, same_output=False, patience=180,
    environment={"CI": "true", "FAST_REFRESH": "true"},
    files={
        "package.json": '{"name": "app", "scripts": {"start": "react-scripts start"}, "dependencies": {"react": "19", "react-dom": "19", "react-scripts": "5.0.1"}, '
                        '"browserslist": ["last 1 chrome version"]}\n',
        "public/index.html": '<!doctype html><body>@CONTENT@<div id="root"></div></body>\n',
        "src/index.js": 'document.getElementById("root").textContent = "@CONTENT@";\n'})
