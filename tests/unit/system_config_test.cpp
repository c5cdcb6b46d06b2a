// .portwrap.json: what it may say, and each thing that it may not.
#include <catch2/catch.hpp>

#include "core/frameworks.hpp"
#include "system/places.hpp"

using namespace portwrap;

namespace {

std::string problem_of(std::string_view text) {
    const auto parsed = parse_project_config(text);
    return parsed ? std::string() : parsed.error().message;
}

std::string problem_of_service(const std::string& members) { return problem_of(R"({"services": {"web": {)" + members + "}}}"); }

}  // namespace

TEST_CASE("a complete project config is read in the file's order", "[config]") {
    const auto parsed = parse_project_config(R"(// ours
{
  "$schema": "x", "name": "shop\u001b", "type": "node", /* both kinds of comment */
  "services": {
    "web": { "port": 5173, "args": ["--port", "{port}"], "sockname": "requested", "type": "node" },
    "api": { "port": 1, "env": "API_PORT", "dir": "./apps//api/", "health": "/healthz?x=1" },
    "@acme/db:1": { "kind": "database", "shared": true }
  },
  "env": { "API_URL": "http://localhost:${api}", "B": "" },
  "connect": "off", "port_zero": "kernel", "rewrite_env": true, "sticky": "prefer"
})");
    REQUIRE(parsed);
    CHECK(parsed->name == "shop");
    CHECK(parsed->type == "node");
    REQUIRE(parsed->services.size() == 3);
    const auto& web = parsed->services[0];
    CHECK(web.name == "web");
    CHECK(web.port == 5173);
    CHECK(web.args == std::vector<std::string>{"--port", "{port}"});
    CHECK(web.sockname_requested);
    const auto& api = parsed->services[1];
    CHECK(api.name == "api");
    CHECK(api.env == "API_PORT");
    CHECK(api.dir == "apps/api");
    CHECK(api.health == "/healthz?x=1");
    CHECK_FALSE(api.sockname_requested);
    CHECK(parsed->services[2].kind == "database");
    CHECK(parsed->services[2].shared == true);
    REQUIRE(parsed->env.size() == 2);
    CHECK(parsed->env[0] == std::pair<std::string, std::string>{"API_URL", "http://localhost:${api}"});
}

TEST_CASE("a port is a whole number from 1 to 65535 and nothing that can be made one", "[config]") {
    for (const char* value : {"0", "70000", "-1", "80.9", "80.0", "true", "\"3000\"", "null", "[80]", "{}", "65536",
                              "18446744073709551615", "99999999999999999999999"}) {
        INFO(value);
        CHECK(problem_of_service(std::string("\"port\": ") + value) ==
              "1: services.web.port: must be a whole number from 1 to 65535");
    }
    CHECK(problem_of_service("\"port\": 65535").empty());
    CHECK_FALSE(problem_of_service("\"port\": 1e999").empty());
}

TEST_CASE("unknown and repeated keys and wrong kinds are errors with line and key", "[config]") {
    CHECK(problem_of("{\n\"prot\": 1}") == "2: prot: unknown key");
    CHECK(problem_of_service("\n\"prot\": 1") == "2: services.web.prot: unknown key");
    CHECK(problem_of("{\"name\": \"a\",\n\n\"name\": \"b\"}") == "3: the key \"name\" is there twice");
    CHECK(problem_of_service("\"port\": 1,\n\"port\": 2") == "2: the key \"port\" is there twice");
    CHECK(problem_of("[]") == "1: the file must be a JSON object");
    CHECK(problem_of("{\"services\": []}") == "1: services: must be an object");
    CHECK(problem_of("{\"services\": {\"web\": 3000}}") == "1: services.web: must be an object");
    CHECK(problem_of("{\"name\": 1}") == "1: name: must be a string");
    CHECK(problem_of(R"({"name": "\n"})") == "1: name: must not be empty");
    CHECK(problem_of_service("\"args\": \"x\"") == "1: services.web.args: must be an array of strings");
    CHECK(problem_of_service("\"args\": [\"a\",\n\n5\n]") == "3: services.web.args[1]: must be a string");
    CHECK(problem_of_service(R"("args": ["a\u0000b"])") == "1: services.web.args[0]: must not contain NUL");
    CHECK(problem_of_service("\"shared\": 1") == "1: services.web.shared: must be true or false");
    CHECK(problem_of_service("\"sockname\": true") == "1: services.web.sockname: must be \"requested\" or \"real\"");
    CHECK(problem_of("{\"connect\": \"on\"}") == "1: connect: must be \"project\" or \"off\"");
    CHECK(problem_of("{\"rewrite_env\": \"yes\"}") == "1: rewrite_env: must be true or false");
    for (const char* value : {"/etc", "../x", "a/../../b"}) {
        CHECK_FALSE(problem_of_service(std::string("\"dir\": \"") + value + "\"").empty());
    }
    for (const char* value : {"healthz", "/a b", "/a\\r\\nHost: x", ""}) {
        CHECK_FALSE(problem_of_service(std::string("\"health\": \"") + value + "\"").empty());
    }
    for (const char* name : {"", "a b", "a=b", "a\\nb", "\\u001b", "\xc3\xa9"}) {
        CHECK_FALSE(problem_of("{\"services\": {\"" + std::string(name) + "\": {}}}").empty());
    }
    CHECK_FALSE(problem_of("{\"services\": {\"" + std::string(65, 'x') + "\": {}}}").empty());
}

TEST_CASE("what is no JSON is an error with its line", "[config]") {
    CHECK(problem_of("{\n\"a\": 1,\n}").starts_with("3: "));
    CHECK(problem_of("").starts_with("1: "));
    CHECK(problem_of("{} {}").starts_with("1: "));
    CHECK_FALSE(problem_of("{\"name\": \"\xff\"}").empty());
    CHECK(problem_of(std::string(100'000, '[')) == "1: nested too deeply");
    std::string many = "[";
    for (int i = 0; i < 300'000; ++i) { many += "1,"; }
    CHECK(problem_of(many) == "1: more than 256 entries in one object or array");
    CHECK(problem_of(std::string("{\"name\": \"a\0\"}", 13)).starts_with("1: "));
}

TEST_CASE("a repository may not set variables that run its code", "[config]") {
    for (const char* name :
         {"LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PATH", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "BASH_ENV", "ENV", "PYTHONSTARTUP", "PYTHONPATH", "PERL5OPT",
          "PERL5LIB", "PERLLIB", "PERL_UNICODE", "RUBYOPT", "RUBYLIB", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "PORTWRAP_RUNTIME", "PORTWRAP_DEBUG_PORT", "GIT_HTTP_PORT", "IFS", "SHELL",
          "HOME", "USER", "TMPDIR", "TERM", "TERMINFO_DIRS", "NODE_PATH", "PROMPT_COMMAND", "PS4", "JAVA_OPTS", "JAVA_HOME",
          // the C library's and those of libraries that load modules
          "GCONV_PATH", "LOCPATH", "GLIBC_TUNABLES", "MALLOC_TRACE", "HOSTALIASES", "TEXTDOMAINDIR", "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "SSL_CERT_FILE", "SSLKEYLOGFILE",
          "KRB5_CONFIG", "GIO_EXTRA_MODULES", "GTK_MODULES", "QT_PLUGIN_PATH", "ODBCSYSINI",
          // pagers, editors, shells, clients
          "LESSOPEN", "LESSCLOSE", "LESS", "LESSKEYIN", "PAGER", "MANPAGER", "SYSTEMD_PAGER", "EDITOR", "KUBE_EDITOR", "VISUAL", "BROWSER", "VIMINIT", "EXINIT", "INPUTRC", "PSQLRC", "APP_RC",
          "X_RCFILE", "ZDOTDIR", "fish_function_path", "CURL_HOME", "WGETRC", "KUBECONFIG", "DOCKER_HOST", "DOCKER_CONFIG", "SSH_ASKPASS", "SSH_AUTH_SOCK", "SUDO_ASKPASS", "RSYNC_RSH",
          "AWS_CONFIG_FILE", "CLOUDSDK_PYTHON", "XDG_CONFIG_HOME", "XDG_DATA_DIRS", "http_proxy", "HTTPS_PROXY", "all_proxy", "NO_PROXY", "GLOBAL_AGENT_HTTP_PROXY",
          // compilers, languages and their package managers
          "MAKEFLAGS", "MAKEFILES", "GNUMAKEFLAGS", "CC", "CXX", "CFLAGS", "LDFLAGS", "CMAKE_CXX_COMPILER_LAUNCHER", "GOFLAGS", "GOTOOLCHAIN", "GOCACHEPROG", "CGO_CFLAGS", "RUSTC_WRAPPER",
          "RUSTFLAGS", "CARGO_BUILD_RUSTC", "PHPRC", "PHP_INI_SCAN_DIR", "TS_NODE_COMPILER", "npm_config_script_shell", "NPM_CONFIG_PREFIX", "Npm_Config_node_options", "YARN_RC_FILENAME",
          "yarn_script_shell", "PNPM_HOME", "COREPACK_NPM_REGISTRY", "PIP_INDEX_URL", "UV_INDEX_URL", "BUNDLE_GEMFILE", "LUA_INIT", "BUN_OPTIONS", "DENO_DIR", "ELECTRON_RUN_AS_NODE",
          "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "MAVEN_ARGS", "GRADLE_OPTS", "DOTNET_STARTUP_HOOKS", "CORECLR_PROFILER_PATH", "R_PROFILE_USER", "VITE_X_OPTIONS"}) {
        INFO(name);
        CHECK(is_refused_variable(name));
        CHECK(problem_of_service(std::string("\"env\": \"") + name + "\"").find(name) != std::string::npos);
        CHECK_FALSE(problem_of(std::string("{\"env\": {\"") + name + "\": \"x\"}}").empty());
    }
    for (const char* name :
         {"PORT", "API_PORT", "PGPORT", "PGHOST", "FLASK_RUN_PORT", "FLASK_RUN_HOST", "FLASK_APP", "FLASK_DEBUG", "UVICORN_PORT", "SERVER_PORT", "WDS_SOCKET_PORT", "NUXT_PORT", "NITRO_HOST",
          "WEBPACK_DEV_SERVER_BASE_PORT", "BUN_PORT", "DOCKER_WEB_PORT", "SSH_PORT", "PHP_PORT", "VITE_API_URL", "VITE_EDITOR", "VITE_HTTP_PROXY", "NEXT_PUBLIC_API_URL", "NEXT_TELEMETRY_DISABLED",
          "NUXT_PUBLIC_API_BASE", "REACT_APP_API", "PUBLIC_URL", "API_URL", "API_HOST", "API_PATH", "API_PROXY", "DATABASE_URL", "REDIS_URL", "AMQP_URL", "BASE_URL", "NEXTAUTH_URL", "HOST", "NODE_ENV",
          "RAILS_ENV", "MIX_ENV", "APP_ENV", "DOTNET_ENVIRONMENT", "ASPNETCORE_URLS", "RUST_LOG", "DEBUG", "LOG_LEVEL", "TZ", "LANG", "HTTPS", "SSL_KEY_FILE", "AWS_ENDPOINT_URL", "AWS_REGION",
          "GOOGLE_CLIENT_ID", "TERMS_URL", "MAKER_ID", "LESSON_URL", "FEATURE_FLAGS", "COMPOSE_PROJECT_NAME", "SPRING_PROFILES_ACTIVE", "DJANGO_SETTINGS_MODULE", "DB_INIT", "PHP_CLI_SERVER_WORKERS",
          "UV_THREADPOOL_SIZE", "CI", "WEB_SRC", "_x1"}) {
        INFO(name);
        CHECK_FALSE(is_refused_variable(name));
        CHECK(problem_of(std::string("{\"env\": {\"") + name + "\": \"x\"}}").empty());
    }
    for (const auto name : port_variables()) { CHECK_FALSE(is_refused_variable(name)); }
    for (const char* name : {"", "1A", "A-B", "A=B", "A B", "A\\u0000"}) {
        CHECK_FALSE(problem_of(std::string("{\"env\": {\"") + name + "\": \"x\"}}").empty());
    }
}

TEST_CASE("all arguments and all values of a project config are bounded together", "[config]") {
    const auto services = [](int count, int arguments, std::size_t length) {
        std::string text = "{\"services\": {";
        for (int i = 0; i < count; ++i) {
            text += (i == 0 ? "" : ",") + std::string("\n\"s") + std::to_string(i) + "\": {\"args\": [";
            for (int k = 0; k < arguments; ++k) { text += (k == 0 ? "\"" : ",\"") + std::string(length, 'x') + "\""; }
            text += "]}";
        }
        return text + "}}";
    };
    CHECK(problem_of(services(128, 8, 64)).empty());
    CHECK(problem_of(services(129, 8, 10)) == "130: services.s128.args: makes more than 1024 arguments of all services together");
    CHECK(problem_of(services(17, 1, 4000))== "18: services.s16: makes more than 64 KiB of arguments and paths of all services together");
    CHECK(problem_of(services(256, 20, 4)).ends_with("makes more than 1024 arguments of all services together"));
    CHECK(problem_of(services(256, 200, 4)).ends_with("more than 8192 values altogether"));
    std::string variables = "{\"env\": {";
    for (int i = 0; i < 17; ++i) { variables += (i == 0 ? "" : ",") + std::string("\n\"V") + std::to_string(i) + "\": \"" + std::string(4000, 'x') + "\""; }
    CHECK(problem_of(variables + "}}") == "18: env.V16: makes more than 64 KiB of values altogether");
}
