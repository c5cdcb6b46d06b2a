// What the words of a command and of its script say of the servers that it runs.
#include <catch2/catch.hpp>

#include "core/env_cascade.hpp"
#include "core/frameworks.hpp"
#include "core/named_ports.hpp"
#include "core/shell_words.hpp"

using namespace portwrap;

namespace {
std::string name_of(const LaunchTraits& traits) { return traits.framework != nullptr ? std::string(traits.framework->name) : "none"; }
LaunchTraits of_script(std::string_view script, std::string_view manifests = "") { return traits_of_launch({"npm", "run", "dev"}, script, packages_in(manifests), false); }
}  // namespace

TEST_CASE("a shell text is read as its simple commands, quotes off, programs without directories", "[frameworks]") {
    const auto commands = simple_commands("NODE_ENV=dev A='b c' ./bin/one \"x y\" \\$z 2>&1 && two | three;four & five");
    REQUIRE(commands.size() == 5);
    CHECK(commands[0].assignments == std::vector<std::pair<std::string, std::string>>{{"NODE_ENV", "dev"}, {"A", "b c"}});
    CHECK(commands[0].words == std::vector<std::string>{"one", "x y", "$z", "2>&1"});
    CHECK_FALSE(commands[0].beside);
    CHECK(commands[3].words == std::vector<std::string>{"four"});
    CHECK(commands[3].beside);
    CHECK_FALSE(commands[4].beside);
    for (const auto* text : {"", "   ", "&&", "'", "\\", "a \"", ";;|&", "(", "env", "npx --yes"}) { (void)simple_commands(text); }
}

TEST_CASE("programs that only run another one are taken off", "[frameworks]") {
    for (const auto* text : {"next dev", "npx next dev", "npx --yes next dev", "cross-env NODE_ENV=x next dev", "env -u A B=c next dev", "exec next dev",
                             "node node_modules/.bin/next dev", "node ./node_modules/next/dist/bin/next dev", "pnpm exec next dev", "/usr/bin/nice -n 5 next dev",
                             "dotenv -e .env -- next dev", "npm run build && next start", "node --inspect node_modules/.bin/next dev", "npx next@latest dev", "next",
                             "next -p 3005", "nodemon --exec 'next dev'", "nodemon -w src -x next dev", "timeout -s INT 29 next dev", "sudo -u me next dev",
                             "corepack pnpm exec next dev", "nohup time -p next dev", "sh -c 'next dev'", "npx -c 'next dev'", "docker compose up -d db && next dev",
                             "node -r dotenv/config --max-old-space-size=2048 node_modules/.bin/next dev", "yarn next dev", "pnpm -C web next dev", "bun next dev"}) {
        CAPTURE(text);
        CHECK(name_of(of_script(text)) == "next");
    }
    CHECK(name_of(traits_of_launch({"sh", "-c", "cd x; flask --app a run"}, "", {}, false)) == "flask");
    CHECK(name_of(traits_of_launch({"python3.11", "-m", "flask", "run"}, "", {}, false)) == "flask");
    for (const auto* text : {"python -u -m flask run", "python3 -X dev -m flask run", "python -Xdev -um flask run", "uv run -m flask run", "dotenv run -- flask run",
                             "python -W ignore -m flask run"}) {
        CAPTURE(text);
        CHECK(name_of(of_script(text)) == "flask");
    }
    CHECK(name_of(of_script("python3 -X dev manage.py runserver")) == "django");
    CHECK(name_of(traits_of_launch({"poetry", "run", "uvicorn", "a:b"}, "", {}, false)) == "uvicorn");
    CHECK(name_of(traits_of_launch({"python", "manage.py", "runserver"}, "", {}, false)) == "django");
}

TEST_CASE("words that run no server name no framework", "[frameworks]") {
    for (const auto* text : {"next build", "vite build", "node server.js", "webpack --mode production", "flask shell", "react-scripts test", "tsc -w", "mynext dev", "", "next lint",
                             "python -m", "python -c 'flask run'", "node -e next dev", "nodemon --exec", "sh -c", "timeout 5", "yarn serve\nnode server.js"}) {
        CAPTURE(text);
        CHECK(name_of(of_script(text)) == "none");
    }
    CHECK(name_of(of_script("vite --host")) == "vite");
    CHECK(name_of(of_script("vite preview")) == "vite preview");
}

namespace {
std::string repeated(std::string_view text, std::size_t times) {
    std::string all;
    for (std::size_t i = 0; i < times; ++i) { all += text; }
    return all;
}
}  // namespace

TEST_CASE("what is longer than anybody's script is not read as one", "[frameworks]") {
    CHECK(simple_commands(repeated("a;", k_max_shell_words)).size() == k_max_shell_words);
    CHECK(simple_commands(repeated("a;", k_max_shell_words + 1)).empty());
    CHECK(simple_commands(repeated("A=1 ", k_max_shell_words - 1) + "x").front().assignments.size() == k_max_shell_words - 1);
    CHECK(simple_commands(repeated("env ", k_max_shell_words) + "x").empty());
    CHECK(simple_commands(std::string(k_max_shell_text, 'a')).size() == 1);
    CHECK(simple_commands(std::string(k_max_shell_text + 1, 'a')).empty());
    CHECK(simple_commands_of_lines(repeated("a\n", k_max_shell_words / 2)).size() == k_max_shell_words / 2);
    CHECK(simple_commands_of_lines(repeated("a\n", k_max_shell_words)).empty());
    CHECK(simple_commands_of_lines(repeated("\n", k_max_shell_words + 1)).empty());
    CHECK(of_script(repeated("next dev;", 1)).framework != nullptr);
    CHECK(of_script(repeated("craco start;", 60'000), "react-scripts").commands.size() == 1);  // what was typed
    CHECK(of_script("next dev\n" + repeated("a\n", 2000)).framework == nullptr);
    // Each command of a text that a shell is given gets the assignments before the shell: a thousand times a thousand copies.
    CHECK(simple_commands(repeated("A=1 ", 500) + "sh -c '" + repeated("x;", 500) + "'").empty());
    CHECK(simple_commands("A=" + std::string(30'000, 'x') + " sh -c '" + repeated("x;", 500) + "'").empty());
    const auto few = simple_commands("A=1 B=2 sh -c 'x; y'");
    REQUIRE(few.size() == 2);
    CHECK(few[1].assignments == few[0].assignments);
    CHECK(few[1].assignments.size() == 2);
}

TEST_CASE("a shell that is given too long a text is still the shell that runs", "[frameworks]") {
    const auto commands = simple_commands({"/bin/sh", "-c", repeated("a;", 30'000)});
    REQUIRE(commands.size() == 1);
    CHECK(commands[0].words.front() == "sh");
    CHECK(commands[0].words.size() == 3);
    const std::vector<std::string> many(20'000, "env");
    CHECK(simple_commands(many).empty());
}

TEST_CASE("a shell's default of a variable is read where it has one", "[frameworks]") {
    for (const auto* text : {"node x --port=${PORT:-4000}", "php -S localhost:${PORT:-4000}", "x \"${PORT-4000}\" $PORT ${PORT}", "x ${PORT:-3000}\ny ${PORT:-4000} ${PORT:?no}",
                             "${API_PORT:-1} ${PORT:-4000} ${PORTAL:-2} ${PORT:-3"}) {
        CAPTURE(text);
        CHECK(variable_default(text, "PORT") == "4000");
    }
    for (const auto* text : {"", "$PORT", "${PORT}", "${PORT:-}", "${PORT:-4000", "${PORT:+4000}", "${PORT:?4000}", "${PORT:4000}", "$PORT:-4000}", "${API_PORT:-4000}", "${PORTAL-4000}",
                             "{PORT:-4000}", "${", "${PORT", "${PORT:", "${PORT:-"}) {
        CAPTURE(text);
        CHECK(variable_default(text, "PORT").empty());
    }
    CHECK(variable_default("${PORT:-${API_PORT:-4000}}", "PORT").empty());
    CHECK(variable_default("${PORT:-${API_PORT:-4000}}", "API_PORT") == "4000");
}

TEST_CASE("some commands name their framework only with a manifest that does, too", "[frameworks]") {
    CHECK(name_of(of_script("craco start")) == "none");
    CHECK(name_of(of_script("craco start", R"({"dependencies":{"react-scripts":"5.0.1"}})")) == "react-scripts");
    CHECK(name_of(traits_of_launch({"java", "-jar", "a.jar"}, "", {}, false)) == "none");
    CHECK(name_of(traits_of_launch({"java", "-jar", "a.jar"}, "", packages_in("<artifactId>spring-boot-starter-web</artifactId>"), false)) == "spring-boot");
    CHECK(packages_in("my-react-scripts-x").empty());
    CHECK(packages_in("\"react-scripts\": \"5\", react-scripts spring-boot-starter") == std::vector<std::string_view>{"react-scripts", "spring-boot"});
}

TEST_CASE("several servers are known by who runs them", "[frameworks]") {
    for (const auto* text : {"concurrently \"next dev\" \"node api.js\"", "npm-run-all -p web api", "run-p web api", "turbo dev", "turbo run dev", "pm2 start x.js",
                             "node api.js & next dev", "npm run dev --workspaces", "pnpm -r dev", "pnpm --filter web dev", "next dev & wait", "flask run && uvicorn a:b"}) {
        CAPTURE(text);
        CHECK_FALSE(of_script(text).one_server);
        CHECK(name_of(of_script(text)) == "none");
    }
    for (const auto* text : {"next dev", "wait-on tcp:4000 && vite", "node server.js 2>&1 | pino-pretty", "next build && next start"}) {
        CAPTURE(text);
        CHECK(of_script(text).one_server);
    }
    CHECK_FALSE(traits_of_launch({"npm", "run", "dev"}, "node dev.js", {}, true).one_server);
    CHECK(traits_of_launch({"npm", "run", "dev"}, "next dev apps/web", {}, true).one_server);
}

TEST_CASE("a port in the words is the port that the program asks for", "[frameworks]") {
    CHECK(of_script("next dev -p 4000").said == Port{4000});
    CHECK(of_script("vite --port=4000 --host").said == Port{4000});
    CHECK(of_script("PORT=4000 react-scripts start").said == Port{4000});
    CHECK(of_script("cross-env PORT=4000 node server.js").said == Port{4000});
    CHECK(of_script("serve -l tcp://0.0.0.0:4000").said == Port{4000});
    CHECK(of_script("python manage.py runserver 0.0.0.0:4000").said == Port{4000});
    CHECK(traits_of_launch({"python3", "-m", "http.server", "4000"}, "", {}, false).said == Port{4000});
    CHECK(of_script("next dev -p4000").said == Port{4000});
    CHECK(of_script("gunicorn -b127.0.0.1:4000 app:app").said == Port{4000});
    CHECK(of_script("gunicorn --bind unix:/tmp/x app:app").portless);
    CHECK(of_script("serve -l unix:/tmp/x").portless);
    CHECK_FALSE(of_script("next dev -p $PORT").said);
    CHECK(of_script("next dev -p ${PORT:-3005}").said_otherwise);
    CHECK(of_script("next dev -p ${PORT:-3005}").fallback == Port{3005});
    CHECK_FALSE(of_script("next dev -p ${PORT:-x}").fallback);
    CHECK_FALSE(of_script("next dev -p 70000").said);
    CHECK_FALSE(of_script("node server.js -p 4000").said);  // what it does with -p nobody knows
    CHECK_FALSE(of_script("concurrently 'next dev -p 4000' x").said);
}

TEST_CASE("containers and other work are told from servers", "[frameworks]") {
    CHECK(traits_of_launch({"docker", "compose", "up"}, "", {}, false).container);
    CHECK(traits_of_launch({"podman", "run", "-p", "80:80", "x"}, "", {}, false).container);
    for (const auto* text : {"docker ps", "docker exec -it web npm start", "docker logs start", "docker compose exec web npm start", "docker container ls", "docker"}) {
        CAPTURE(text);
        CHECK_FALSE(traits_of_launch({"sh", "-c", text}, "", {}, false).container);
        CHECK(traits_of_launch({"sh", "-c", text}, "", {}, false).container_client);
    }
    for (const auto* text : {"docker compose -f x.yml up", "docker --context x container run y", "docker-compose -p x up -d", "sudo docker compose up", "sudo -n podman run x"}) {
        CAPTURE(text);
        CHECK(traits_of_launch({"sh", "-c", text}, "", {}, false).container);
        CHECK(traits_of_launch({"sh", "-c", text}, "", {}, false).container_client);
    }
    CHECK(traits_of_launch({"npm", "run", "build"}, "vite build", {}, false).other_work);
    CHECK(traits_of_launch({"npm", "test"}, "", {}, false).other_work);
    CHECK_FALSE(traits_of_launch({"npm", "run", "dev"}, "vite", {}, false).other_work);
}

TEST_CASE("a script's name is not taken for the binary that is called so", "[frameworks]") {
    CHECK(name_of(traits_of_launch({"yarn", "next", "dev"}, "", {}, false)) == "next");
    CHECK(name_of(traits_of_launch({"yarn", "serve"}, "node server.js", {}, false)) == "none");
    CHECK(name_of(traits_of_launch({"yarn", "serve"}, "vite preview", {}, false)) == "vite preview");
    CHECK(name_of(traits_of_launch({"npm", "next", "dev"}, "", {}, false)) == "none");
}

TEST_CASE("a program that takes PORT for more is known when it runs", "[frameworks]") {
    CHECK(takes_port_for_more({"/usr/bin/python3", "/usr/bin/gunicorn", "app:app"}));
    CHECK(takes_port_for_more({"gunicorn: master [app:app]"}));
    CHECK_FALSE(takes_port_for_more({"node", "server.js", "x", "gunicorn"}));
    CHECK_FALSE(takes_port_for_more({"gunicorn-stats"}));
    CHECK_FALSE(takes_port_for_more({}));
}

TEST_CASE("scripts that start something are told from other work by their names", "[frameworks]") {
    for (const auto* script : {"build:web", "db:migrate", "generate-api", "test:e2e"}) { CHECK(traits_of_launch({"npm", "run", script}, "", {}, false).other_work); }
    CHECK(traits_of_launch({"npm", "--prefix", "api", "run", "build"}, "", {}, false).other_work);
    CHECK(traits_of_launch({"npm", "--prefix", "web", "test"}, "", {}, false).other_work);
    for (const auto* script : {"dev:test", "start", "web", "serve:docs"}) { CHECK_FALSE(traits_of_launch({"npm", "run", script}, "", {}, false).other_work); }
}

namespace {
std::string files_of(std::string_view text) {
    std::string names;
    for (const auto& file : env_files_of(simple_commands(text))) { names += (names.empty() ? "" : " ") + file.name + (file.named ? "!" : ""); }
    return names;
}
}  // namespace

TEST_CASE("of very many named .env files the last ones count", "[frameworks]") {
    std::string text;
    for (int i = 0; i < 200; ++i) { text += "dotenv -e f" + std::to_string(i) + " -- x;"; }
    const auto files = env_files_of(simple_commands(text));
    CHECK(files.size() == 4 + k_max_named_env_files);
    CHECK(files.back().name == "f199");
}

TEST_CASE("the .env files of a launch are those that its programs read, in their order", "[frameworks]") {
    CHECK(files_of("next dev") == ".env .env.development .env.local .env.development.local");
    CHECK(files_of("next start") == ".env .env.production .env.local .env.production.local");
    CHECK(files_of("vite") == ".env .env.local .env.development .env.development.local");
    CHECK(files_of("vite --mode staging") == ".env .env.local .env.staging .env.staging.local");
    CHECK(files_of("vite --mode=../../etc") == ".env .env.local .env.development .env.development.local");
    CHECK(files_of("NODE_ENV=test node x.js") == ".env .env.test .env.test.local");
    CHECK(files_of("flask run") == ".flaskenv .env");
    CHECK(files_of("flask run & vite") == ".flaskenv .env .env.local .env.development .env.development.local");
    CHECK(files_of("nuxt dev") == ".env");
    CHECK(files_of("nuxi dev --dotenv .env.local") == ".env.local!");
    CHECK(files_of("nitro dev") == ".env");
    CHECK(files_of("node --env-file .env.dev -r x y.js") == ".env .env.development .env.local .env.development.local .env.dev!");
    CHECK(files_of("node --env-file=.env.dev x.js") == ".env .env.development .env.local .env.development.local .env.dev!");
    CHECK(files_of("dotenv -e .env -- next dev") == ".env.development .env.local .env.development.local .env!");
    CHECK(files_of("") == ".env .env.development .env.local .env.development.local");
}

TEST_CASE("PORT comes first among the variables, each of them once", "[frameworks]") {
    const auto& names = port_variables();
    CHECK(names.front() == "PORT");
    for (const std::string_view name : {"FLASK_RUN_PORT", "UVICORN_PORT", "WEBPACK_DEV_SERVER_BASE_PORT", "NUXT_PORT", "SERVER_PORT"}) {
        CHECK(std::count(names.begin(), names.end(), name) == 1);
    }
}

TEST_CASE("moved ports are found where browser code would use them", "[frameworks]") {
    const std::map<Port, Port> moved{{4000, 4001}, {3000, 3007}};
    const auto value = [&](std::string name, std::string text) {
        const auto found = named_moved_port({".env", std::move(name), std::move(text)}, moved);
        return found ? found->value : std::string("none");
    };
    CHECK(value("VITE_API_URL", "http://localhost:4000/api") == "http://localhost:4001/api");
    CHECK(value("API", "http://127.0.0.1:4000,http://[::1]:3000") == "http://127.0.0.1:4001,http://[::1]:3007");
    CHECK(value("VITE_API_PORT", "4000") == "4001");
    CHECK(value("PORT", "4000") == "none");  // the server's own: it is moved when it binds
    CHECK(value("URL", "http://localhost:40001") == "none");
    CHECK(value("URL", "http://mylocalhost:4000") == "none");
    CHECK(value("URL", "http://example.org:4000") == "none");
    CHECK(value("URL", "http://localhost:") == "none");
}
