// What the names in a command say of the server that it runs.
#include <catch2/catch.hpp>

#include "core/launch_words.hpp"

using namespace portwrap;

namespace {
bool names(std::string_view text, std::string_view service) { return names_service(simple_commands(text).front(), service); }
bool is_plain(std::string_view text, std::string_view service = {}) { return is_plain_start(simple_commands(text), service); }
}  // namespace

TEST_CASE("a script, a file or a program names its service", "[launch_words]") {
    for (const auto* text : {"npm run api", "npm run dev:api", "npm --prefix x run api", "pnpm -w run api", "yarn --cwd x api", "make -C x api", "node src/api.js", "node dist/api/server.js",
                             "tsx watch src/api.ts", "node -r dotenv/config api.js", "node --import tsx api.ts", "ts-node -P x src/api.ts", "nodemon -w src --exec tsx src/api.ts",
                             "bun src/api.ts", "bun run api", "python -X dev api.py", "python -m api", "go run ./cmd/api", "cargo run --release --bin api", "./build/api",
                             "deno run --allow-net api.ts", "node --run api", "timeout 5 npm run api"}) {
        CAPTURE(text);
        CHECK(names(text, "api"));
    }
}

TEST_CASE("options, preparations and other programs' arguments name no service", "[launch_words]") {
    for (const auto* text : {"npm run build:api", "npm run release:api", "npm --prefix api run build", "npm --prefix api start", "npm run api:dist", "npm run api-client", "nodemon --watch api server.js",
                             "nodemon -w api server.js", "node -r api server.js", "ts-node -P api src/x.ts", "vim api.js", "node scripts/api-client.js", "node -e api", "make -C api dev"}) {
        CAPTURE(text);
        CHECK_FALSE(names(text, "api"));
    }
}

TEST_CASE("a plain start is one whose text can be read", "[launch_words]") {
    for (const auto* text : {"npm run dev", "npm start", "node server.js", "npm run dev; node dist/server.js", "tsc && node dist/main.js", "python -u app.py", "./server", "tsx watch src/index.ts"}) {
        CAPTURE(text);
        CHECK(is_plain(text));
        CHECK(is_plain(text, "web"));
    }
    for (const auto* text : {"make dev", "just dev", "task dev", "rake start", "./dev.sh", "bash dev.sh", "node dev.js", "composer dev", "npm run dev:api", "node api.js", ""}) {
        CAPTURE(text);
        CHECK_FALSE(is_plain(text));
    }
}

TEST_CASE("what is called server is no front end", "[launch_words]") {
    for (const auto* service : {"frontend", "front", "client", "ui", "site", "www"}) {
        CAPTURE(service);
        CHECK_FALSE(is_plain("node server.js", service));
        CHECK_FALSE(is_plain("npm start; node server.js", service));
        CHECK(is_plain("npm start; node index.js", service));
    }
}
