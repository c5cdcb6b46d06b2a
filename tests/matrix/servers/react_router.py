"""React Router (formerly Remix) in development: vite behind its own command."""
from server import Server

SERVER = Server(
    port=5173, modules=("more",), commands=[["npm", "run", "dev"]], websocket=True, same_output=False, patience=120,
    files={
        "package.json": '{"name": "app", "type": "module", "scripts": {"dev": "react-router dev"}, "dependencies": {"react-router": "7", "react": "19", "react-dom": "19", "isbot": "5", '
                        '"@react-router/node": "7"}, "devDependencies": {"@react-router/dev": "7", "vite": "8"}}\n',
        "vite.config.js": 'import { reactRouter } from "@react-router/dev/vite";\nexport default { plugins: [reactRouter()] };\n',
        "app/root.jsx": 'import { Outlet, Scripts } from "react-router";\nexport default function Root() { return <html><body><Outlet /><Scripts /></body></html>; }\n',
        "app/routes.js": 'import { index } from "@react-router/dev/routes";\nexport default [index("home.jsx")];\n',
        "app/home.jsx": "export default function Home() { return <p>@CONTENT@</p>; }\n"})
