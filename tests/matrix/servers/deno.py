"""deno: a program of its own, in Rust, which binds through libc."""
from server import Server

SERVER = Server(
    port=8000, modules=("more",), commands=[["node_modules/@deno/linux-x64-glibc/deno", "run", "--allow-net", "server.ts"]], same_output=False,
    environment={"DENO_NO_UPDATE_CHECK": "1"},
    files={"package.json": '{"name": "app"}\n', "deno.json": "{}\n", "server.ts": 'Deno.serve(() => new Response("@CONTENT@"));\n'})
