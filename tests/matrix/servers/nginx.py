"""nginx in the foreground: a master that binds, workers that accept."""
from server import Server

SERVER = Server(
    port=8080, type="static", needs=("/usr/sbin/nginx",), commands=[["sh", "-c", 'exec /usr/sbin/nginx -p "$PWD" -e stderr -c nginx.conf']], same_output=False,
    files={
        "index.html": "<!doctype html><p>@CONTENT@</p>\n",
        "nginx.conf": """daemon off;
pid nginx.pid;
worker_processes 2;
events {}
http {
    access_log off;
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    server {
        listen 8080;
        listen [::]:8080;
        location / { default_type text/plain; return 200 "@CONTENT@"; }
    }
}
"""})
