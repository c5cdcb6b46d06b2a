// The decoder of requests and the readers of their parameters.
#include <cstdint>

#include "core/policy.hpp"
#include "fuzz.hpp"
#include "portwrap/protocol.hpp"
#include "service/wire.hpp"

using namespace portwrap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string line(reinterpret_cast<const char*>(data), size);
    const auto read = parse_request(line);
    if (const auto* error = std::get_if<RequestError>(&read)) {
        const auto reply = error_line(error->id, error->code, error->message, nullptr);
        fuzz::promise(Json::accept(reply) && reply.find('\n') == std::string::npos, "an error is one line of JSON");
        return 0;
    }
    const auto& request = std::get<Request>(read);
    const bool given = request.params.object().exists();
    const auto said = given ? Json::parse(request.params.object().source(), nullptr, false) : Json::object();
    if (said.is_discarded()) { return 0; }  // a number that no double can hold
    fuzz::promise(said.is_object(), "params are an object");
    const auto again = parse_request(Json{{"jsonrpc", "2.0"}, {"id", request.id}, {"method", request.method}, {"params", said}}.dump());
    fuzz::promise(std::holds_alternative<Request>(again) && Json::parse(std::get<Request>(again).params.object().source(), nullptr, false) == said,
                  "what was read reads the same again");
    Params params(request.params);
    for (const char* name : {"port", "requested", "preferred"}) {
        if (const auto port = params.port(name)) { fuzz::promise(*port >= 1 && said[name] == *port, "a port is what was said"); }
    }
    if (const auto number = params.number("lease", 1000)) { fuzz::promise(*number <= 1000, "a number is within its bound"); }
    for (const char* name : {"service", "cwd", "project", "description"}) {
        if (const auto text = params.text(name, 64)) { fuzz::promise(!text->empty() && text->size() <= 64, "a text is within its bound"); }
    }
    (void)params.choice<LeaseState>("state");
    (void)params.flag("force");
    params.require("service");
    fuzz::promise(params.texts("command", 4, 16).size() <= 4, "an array is within its bound");
    fuzz::promise(params.numbers("session", 2).size() == 2, "numbers are as many as asked for");
    const auto problem = params.finish();
    fuzz::promise(fuzz::is_showable(problem), "a problem can be shown");
    fuzz::promise(Json::accept(result_line(request.id, said)), "a result is JSON");
    return 0;
}
