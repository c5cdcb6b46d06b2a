// portctl history, watch, wait: what happened to ports, what happens, and what is to happen.
#include <unistd.h>

#include <algorithm>
#include <string>

#include "cli11.hpp"
#include "command.hpp"
#include "options.hpp"
#include "portwrap/protocol.hpp"
#include "render.hpp"
#include "text.hpp"

namespace portwrap {

namespace {

using Words = std::vector<std::string>;

int run_history(Globals& globals, const Words& arguments) {
    Word target;
    Word since;
    std::size_t limit = 1000;
    const auto end = parse_command(
        globals, "history [PORT|SERVICE] [--since DURATION] [OPTIONS]", "Shows who had a port, and when; of a PORT in every project.",
        "  portctl history\n"
        "  portctl history 3000 --since 2d\n"
        "  portctl history web --json | jq '.events[].event'",
        arguments, [&](CLI::App& app) {
            add_word(app, target, "PORT|SERVICE", "Of this port or service alone", false);
            app.add_option("--since", since.value, "Not older than this: 30m, 2h, 7d")
                ->option_text("DURATION")
                ->take_last()
                ->each([&](const std::string&) { since.given = true; });
            app.add_option("-n,--limit", limit, "The newest so many events (1000)")->option_text("N")->check(CLI::Range(1, 10000));
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, true);
    if (!parameters) { return report(globals, parameters.error()); }
    if (target.given) {
        if (auto put = put_target(*parameters, target.value, "port"); !put) { return report(globals, put.error()); }
    }
    if (since.given) {
        const auto seconds = parse_duration(since.value);
        if (!seconds) { return report(globals, seconds.error()); }
        (*parameters)["since_s"] = *seconds;
    }
    // The newest first, a page at a time: each page ends before the oldest event of the last one.
    Json last;
    std::vector<Json> newest_first;
    for (bool more = true; more;) {
        (*parameters)["limit"] = std::min(k_history_page, limit - newest_first.size());
        const int status = ask(globals, "lease.history", *parameters, [&](const Json& result) {
            const auto& page = inner_field(result, "events");
            newest_first.insert(newest_first.end(), page.rbegin(), page.rend());
            more = result.value("more", false) && !page.empty() && newest_first.size() < limit;
            if (more) { (*parameters)["before"] = number_field(page.front(), "seq").value_or(0); }
            if (!more) { last = result; }
            return 0;
        });
        if (status != 0) { return status; }
    }
    std::reverse(newest_first.begin(), newest_first.end());
    if (globals.json) {
        last.erase("more");
        last["events"] = newest_first;
        return print_json(last);
    }
    const auto style = style_of_stdout();
    std::string text;
    for (const auto& event : newest_first) { text += render_event(event, style); }
    if (text.empty()) { write_line(STDERR_FILENO, "portctl: no history" + std::string(since.given ? " in that time" : "")); }
    return print_text(text);
}

int run_watch(Globals& globals, const Words& arguments) {
    const auto end = parse_command(
        globals, "watch [OPTIONS]",
        "Prints what happens to the project's ports as it happens: lines for people on a terminal, else one JSON object a line.",
        "  portctl watch --all\n"
        "  portctl watch --json | jq -c 'select(.event == \"activated\") | .lease.port'",
        arguments, [](CLI::App&) {});
    if (end) { return *end; }
    const auto parameters = project_parameters(globals, true);
    if (!parameters) { return report(globals, parameters.error()); }
    auto connection = reach_agent(Deadline::in_milliseconds(k_portctl_deadline_ms));
    if (!connection) { return report(globals, connection.error()); }
    const auto begun = connection->call("lease.watch", *parameters);
    if (!begun) { return report(globals, begun.error()); }
    if (!begun->ok) { return report(globals, begun->body); }
    connection->wait_without_limit();
    const bool as_json = globals.json || ::isatty(STDOUT_FILENO) != 1;
    while (true) {
        const auto message = connection->next_message();
        if (!message) { return report(globals, message.error()); }
        const auto& event = inner_field(*message, "params");
        if (!event.is_object()) { continue; }
        const int printed = as_json ? print_json(event) : print_text(render_event(event, style_of_stdout()));
        if (printed != 0) { return printed; }
    }
}

int run_wait(Globals& globals, const Words& arguments) {
    Word target;
    Word timeout;
    const auto end = parse_command(
        globals, "wait SERVICE|PORT [--timeout DURATION] [OPTIONS]",
        "Waits until the service or port is listened on; exit status 1: not in that time.",
        "  portctl wait api && npm run dev\n"
        "  portctl wait 5432 --timeout 30s",
        arguments, [&](CLI::App& app) {
            add_word(app, target, "SERVICE|PORT", "What to wait for", true);
            app.add_option("--timeout", timeout.value, "At most so long: 30s, 2m (default: without end)")
                ->option_text("DURATION")
                ->take_last()
                ->each([&](const std::string&) { timeout.given = true; });
        });
    if (end) { return *end; }
    auto parameters = project_parameters(globals, false);
    if (!parameters) { return report(globals, parameters.error()); }
    if (auto put = put_target(*parameters, target.value, "port"); !put) { return report(globals, put.error()); }
    if (timeout.given) {
        if (auto put = put_timeout(*parameters, timeout.value); !put) { return report(globals, put.error()); }
    }
    const auto reply = await_listener(*parameters);
    if (!reply) { return report(globals, reply.error()); }
    if (!reply->ok) { return report(globals, reply->body); }
    const bool heard = is_heard(reply->body);
    if (globals.json) {
        const int printed = print_json(reply->body);
        return printed != 0 || heard ? printed : 1;
    }
    if (!heard) {
        write_line(STDERR_FILENO, "portctl: nothing listens on " + printable(target.value) + " after " + printable(timeout.value));
        return 1;
    }
    return 0;
}

}  // namespace

std::vector<Command> event_commands() {
    return {{"history", "who had which port, and when", run_history},
            {"watch", "what happens to ports, as it happens", run_watch},
            {"wait", "wait until a service or port is listened on", run_wait}};
}

}  // namespace portwrap
