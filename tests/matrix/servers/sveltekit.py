"""SvelteKit: vite dev with pages of its own."""
from server import Server

SERVER = Server(
    port=5173, modules=("more",), commands=[["npm", "run", "dev"]], websocket=True, same_output=False, patience=120,
    files={
        "package.json": '{"name": "app", "type": "module", "scripts": {"dev": "vite dev"}, "devDependencies": {"@sveltejs/kit": "2", "svelte": "5", "vite": "8"}}\n',
        "vite.config.js": 'import { sveltekit } from "@sveltejs/kit/vite";\nexport default { plugins: [sveltekit()] };\n',
        "svelte.config.js": "export default {};\n",
        "src/app.html": "<!doctype html><html><head>%sveltekit.head%</head><body><div>%sveltekit.body%</div></body></html>\n",
        "src/routes/+page.svelte": "<p>@CONTENT@</p>\n"})
