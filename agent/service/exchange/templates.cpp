// The snippets. Where a tool takes its port from a variable, the snippet reads it and has the real port as its default, so
// that it is right with and without portwrap.
#include "service/exchange/templates.hpp"

#include <algorithm>
#include <utility>

namespace portwrap {

const std::vector<Template>& all_templates() {
    static const std::vector<Template> k_templates{
        {"angular", "angular.json, the serve target's options", R"("serve": { "options": { "port": @PORT@ } }
)"},
        {"apache", "reverse proxy of a virtual host", R"(<VirtualHost *:80>
    ServerName @HOST@
    ProxyPreserveHost On
    ProxyPass / http://127.0.0.1:@PORT@/
    ProxyPassReverse / http://127.0.0.1:@PORT@/
</VirtualHost>
)"},
        {"astro", "astro.config.mjs", R"(import { defineConfig } from 'astro/config';

export default defineConfig({ server: { port: Number(process.env.PORT ?? @PORT@) } });
)"},
        {"caddy", "Caddyfile, reverse proxy", R"(@HOST@ {
    reverse_proxy 127.0.0.1:@PORT@
}
)"},
        {"cloudflared", "tunnel configuration, ingress rule", R"(ingress:
  - hostname: @HOST@
    service: http://localhost:@PORT@
  - service: http_status:404
)"},
        {"deno", "main.ts", R"(Deno.serve({ port: Number(Deno.env.get("PORT") ?? @PORT@) }, () => new Response("hello"));
)"},
        {"django", "manage.py's command line", R"(python manage.py runserver 127.0.0.1:@PORT@
)"},
        {"docker-compose", "compose.yaml, the published port", R"(services:
  @SERVICE@:
    ports:
      - "@PORT@:@INSIDE@"
)"},
        {"dockerfile", "Dockerfile, with the command that publishes it", R"(# docker run -p @PORT@:@INSIDE@ IMAGE
ENV PORT=@INSIDE@
EXPOSE @INSIDE@
)"},
        {"env", ".env.local", R"(@VARIABLE@=@PORT@
)"},
        {"express", "server.js", R"(const express = require('express');

const app = express();
const port = Number(process.env.PORT ?? @PORT@);
app.get('/', (request, response) => response.send('hello'));
app.listen(port, () => console.log(`@SERVICE@ listens on http://localhost:${port}`));
)"},
        {"fastapi", "main.py, run by uvicorn", R"(import os

import uvicorn
from fastapi import FastAPI

app = FastAPI()

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "@PORT@")))
)"},
        {"flask", "app.py", R"(import os

from flask import Flask

app = Flask(__name__)

if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ.get("PORT", "@PORT@")))
)"},
        {"go", "main.go", R"(port := os.Getenv("PORT")
if port == "" {
	port = "@PORT@"
}
log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
)"},
        {"gunicorn", "command line", R"(gunicorn --bind 127.0.0.1:@PORT@ app:app
)"},
        {"laravel", "artisan's command line", R"(php artisan serve --port=@PORT@
)"},
        {"next", "package.json, scripts", R"("scripts": { "dev": "next dev -p @PORT@", "start": "next start -p @PORT@" }
)"},
        {"nginx", "reverse proxy", R"(server {
    listen 80;
    server_name @HOST@;

    location / {
        proxy_pass http://127.0.0.1:@PORT@;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
    }
}
)"},
        {"nuxt", "nuxt.config.ts", R"(export default defineNuxtConfig({ devServer: { port: Number(process.env.PORT ?? @PORT@) } });
)"},
        {"php", "the built-in server's command line", R"(php -S 127.0.0.1:@PORT@
)"},
        {"rails", "config/puma.rb", R"(port ENV.fetch("PORT", @PORT@)
)"},
        {"spring", "application.properties", R"(server.port=${PORT:@PORT@}
)"},
        {"static", "python's server of files", R"(python3 -m http.server @PORT@ --bind 127.0.0.1
)"},
        {"systemd", "~/.config/systemd/user/@PROJECT@-@SERVICE@.service", R"([Unit]
Description=@PROJECT@ @SERVICE@ on port @PORT@

[Service]
WorkingDirectory=@ROOT@
Environment=PORT=@PORT@
ExecStart=/usr/bin/env npm start
Restart=on-failure

[Install]
WantedBy=default.target
)"},
        {"traefik", "dynamic configuration", R"(http:
  routers:
    @SERVICE@:
      rule: Host(`@HOST@`)
      service: @SERVICE@
  services:
    @SERVICE@:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:@PORT@
)"},
        {"uvicorn", "command line", R"(uvicorn main:app --host 127.0.0.1 --port @PORT@
)"},
        {"vite", "vite.config.js", R"(import { defineConfig } from 'vite';

const port = Number(process.env.PORT ?? @PORT@);

export default defineConfig({
  server: { port, strictPort: true },
  preview: { port, strictPort: true },
});
)"},
        {"vscode", ".vscode/launch.json, opens the browser", R"({
  "version": "0.2.0",
  "configurations": [
    { "name": "@SERVICE@", "type": "chrome", "request": "launch", "url": "http://localhost:@PORT@", "webRoot": "${workspaceFolder}" }
  ]
}
)"},
    };
    return k_templates;
}

const Template* find_template(std::string_view kind) {
    const auto& all = all_templates();
    const auto found = std::find_if(all.begin(), all.end(), [kind](const Template& entry) { return entry.kind == kind; });
    return found == all.end() ? nullptr : &*found;
}

std::string plain_name(std::string_view name) {
    constexpr std::string_view k_marks = "._-@/ ";
    std::string plain(name);
    for (char& c : plain) {
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80;
        if (!letter && k_marks.find(c) == std::string_view::npos) { c = '-'; }
    }
    return plain;
}

std::string host_of(std::string_view project) {
    std::string host;
    for (const char c : project) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.';
        const char low = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : plain ? c : '-';
        const bool after_letter = !host.empty() && host.back() != '-' && host.back() != '.';
        if ((low == '-' || low == '.') && !after_letter) { continue; }
        host += low;
    }
    while (!host.empty() && (host.back() == '-' || host.back() == '.')) { host.pop_back(); }
    return (host.empty() ? "project" : host) + ".localhost";
}

std::string fill_template(const Template& chosen, const TemplateValues& values) {
    const std::pair<std::string_view, std::string> words[] = {
        {"PORT", std::to_string(values.port)}, {"INSIDE", std::to_string(values.inside)}, {"SERVICE", values.service}, {"VARIABLE", values.variable},
        {"PROJECT", values.project},           {"ROOT", values.root},                      {"HOST", values.host}};
    const bool is_unit = chosen.kind == "systemd";
    std::string filled;
    std::string_view rest = chosen.text;
    while (!rest.empty()) {
        const auto at = rest.find('@');
        const auto end = at == std::string_view::npos ? at : rest.find('@', at + 1);
        if (end == std::string_view::npos) { break; }
        const auto name = rest.substr(at + 1, end - at - 1);
        const auto found = std::find_if(std::begin(words), std::end(words), [name](const auto& entry) { return entry.first == name; });
        if (found == std::end(words)) {
            filled += rest.substr(0, end);  // an at sign of the snippet's own
            rest.remove_prefix(end);
            continue;
        }
        filled += rest.substr(0, at);
        for (const char c : found->second) { filled.append(is_unit && c == '%' ? 2 : 1, c); }  // systemd.unit(5): "%" begins a specifier
        rest.remove_prefix(end + 1);
    }
    filled += rest;
    return filled;
}

}  // namespace portwrap
