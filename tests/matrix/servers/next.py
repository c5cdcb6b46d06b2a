"""next dev: a child binds. Its own PORT is set where 3000 is somebody else's."""
from server import Server

SERVER = Server(
    port=3000, modules=("heavy",), commands=[["npm", "run", "dev"]], websocket=True, same_output=False, patience=180,
    files={
        "package.json": '{"name": "app", "scripts": {"dev": "next dev --webpack"}, "dependencies": {"next": "16", "react": "19", "react-dom": "19"}}\n',
        "app/layout.js": "export default function Layout({ children }) { return <html><body>{children}</body></html>; }\n",
        "app/page.js": "export default function Page() { return <p>@CONTENT@</p>; }\n"})
