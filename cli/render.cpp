// See render.hpp.
#include "render.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "text.hpp"

namespace portwrap {

namespace {

const char* escape_of(Colour colour) {
    switch (colour) {
        case Colour::bold: return "\033[1m";
        case Colour::dim: return "\033[2m";
        case Colour::red: return "\033[31m";
        case Colour::green: return "\033[32m";
        case Colour::yellow: return "\033[33m";
        case Colour::none: break;
    }
    return "";
}

std::string painted(std::string_view text, Colour colour, const Style& style) {
    if (!style.colour || colour == Colour::none) { return std::string(text); }
    return escape_of(colour) + std::string(text) + "\033[0m";
}

Colour colour_of_state(std::string_view state) {
    if (state == "active") { return Colour::green; }
    if (state == "conflict") { return Colour::red; }
    if (state == "released") { return Colour::dim; }
    return Colour::yellow;
}

Colour colour_of_health(std::string_view health) {
    if (health == "healthy") { return Colour::green; }
    if (health == "unhealthy") { return Colour::red; }
    return Colour::none;
}

std::string number_or_dash(const Json& object, std::string_view name) {
    const auto number = number_field(object, name);
    return number ? std::to_string(*number) : "-";
}

std::string project_name(const Json& lease) { return text_field(inner_field(lease, "project"), "name"); }

/// ", pid 4242 (me), node server.js", as far as it is known.
std::string process_part(const Json& process) {
    std::string part;
    if (const auto pid = number_field(process, "pid"); pid) { part += ", pid " + std::to_string(*pid); }
    if (const auto user = text_field(process, "user"); !user.empty()) { part += " (" + user + ")"; }
    if (const auto command = text_field(process, "command"); !command.empty()) { part += ", " + command; }
    return part;
}

std::string joined_numbers(const Json& numbers) {
    std::string joined;
    for (const auto& number : numbers) {
        if (!number.is_number_integer()) { continue; }
        joined += (joined.empty() ? "" : ", ") + std::to_string(number.get<long long>());
    }
    return joined;
}

std::string cut_line(std::string line, const Style& style) {
    return (style.width > 0 ? shorten(line, style.width) : std::move(line)) + '\n';
}

std::string listener_lines(const Json& listener, const Style& style) {
    auto line = "  listener: " + text_field(listener, "address") + ' ' + text_field(listener, "protocol");
    const auto process = process_part(listener);
    line += process.empty() ? ", process unknown (another user's?)" : process;
    auto text = cut_line(std::move(line), style);
    std::string more;
    const auto add = [&more](std::string_view label, const std::string& value) {
        if (!value.empty()) { more += (more.empty() ? "    " : ", ") + std::string(label) + value; }
    };
    add("in ", text_field(listener, "cwd"));
    const auto& project = inner_field(listener, "project");
    add("project ", project.is_object() ? text_field(project, "name") : text_field(listener, "project"));
    add("container ", text_field(listener, "container"));
    add("since ", render_moment(text_field(listener, "started_at"), style.now));
    if (!more.empty()) { text += cut_line(std::move(more), style); }
    return text;
}

/// CSV or markdown: every cell whole, titles in lower case.
std::string render_plain(const std::vector<Column>& columns, const std::vector<std::vector<Cell>>& rows, TableForm form) {
    const bool csv = form == TableForm::csv;
    const auto escaped = [csv](std::string_view text) {
        std::string safe;
        for (const char c : text) { safe += csv ? (c == '"' ? "\"\"" : std::string(1, c)) : (c == '|' ? "\\|" : std::string(1, c)); }
        return csv && text.find_first_of("\",") != std::string_view::npos ? '"' + safe + '"' : safe;
    };
    std::string table;
    const auto add_line = [&](const auto& cell_of) {
        table += csv ? "" : "|";
        for (std::size_t c = 0; c < columns.size(); ++c) {
            table += csv ? (c == 0 ? "" : ",") + escaped(cell_of(c)) : ' ' + escaped(cell_of(c)) + " |";
        }
        table += csv ? "\r\n" : "\n";
    };
    add_line([&](std::size_t c) {
        std::string title(columns[c].title);
        for (char& letter : title) { letter = static_cast<char>(letter >= 'A' && letter <= 'Z' ? letter + ('a' - 'A') : letter); }
        return title;
    });
    if (!csv) {
        add_line([&](std::size_t c) { return std::string(columns[c].right ? "--:" : "---"); });
    }
    for (const auto& row : rows) {
        add_line([&](std::size_t c) { return csv && row[c].text == "-" ? std::string() : row[c].text; });
    }
    return table;
}

}  // namespace

Style style_of_stdout() {
    Style style;
    style.now = std::time(nullptr);
    const bool terminal = ::isatty(STDOUT_FILENO) == 1;
    const char* no_colour = std::getenv("NO_COLOR");
    const char* kind = std::getenv("TERM");
    style.colour = terminal && (no_colour == nullptr || no_colour[0] == '\0') && std::string_view(kind ? kind : "") != "dumb";
    winsize size{};
    if (terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        style.width = size.ws_col;
    } else if (const char* columns = std::getenv("COLUMNS"); terminal && columns != nullptr) {
        style.width = std::strtoul(columns, nullptr, 10);
    }
    return style;
}

std::string render_table(const std::vector<Column>& columns, const std::vector<std::vector<Cell>>& rows,
                         const Style& style) {
    constexpr std::size_t k_gap = 2;
    std::vector<std::size_t> widths;
    // What does not fit even where it is cut, from the right, is left out; two columns stay.
    for (auto count = columns.size();; --count) {
        widths.clear();
        for (std::size_t c = 0; c < count; ++c) {
            std::size_t width = columns[c].title.size();
            for (const auto& row : rows) { width = std::max(width, display_width(row[c].text)); }
            widths.push_back(width);
        }
        std::size_t total = std::accumulate(widths.begin(), widths.end(), std::size_t{0}) + k_gap * (count - 1);
        for (std::size_t c = count; style.width > 0 && total > style.width && c-- > 0;) {
            if (columns[c].narrowest == 0 || widths[c] <= columns[c].narrowest) { continue; }
            const auto cut = std::min(total - style.width, widths[c] - columns[c].narrowest);
            widths[c] -= cut;
            total -= cut;
        }
        if (style.width == 0 || total <= style.width || count <= 2) { break; }
    }
    std::string table;
    const auto add_line = [&](const auto& cell_of) {
        std::string line;
        std::size_t owed = 0;
        for (std::size_t c = 0; c < widths.size(); ++c) {
            const Cell cell = cell_of(c);
            const auto text = shorten(cell.text, widths[c]);
            const auto blank = widths[c] - display_width(text);
            owed += columns[c].right ? blank : 0;
            if (!text.empty()) {
                line += std::string(owed, ' ') + painted(text, cell.colour, style);
                owed = 0;
            }
            owed += (columns[c].right ? 0 : blank) + k_gap;
        }
        table += line + '\n';
    };
    add_line([&](std::size_t c) { return Cell{std::string(columns[c].title), Colour::bold}; });
    for (const auto& row : rows) {
        add_line([&](std::size_t c) { return row[c]; });
    }
    return table;
}

std::optional<std::time_t> parse_time(std::string_view rfc3339) {
    std::tm moment{};
    int read = 0;
    const std::string text(rfc3339);
    if (std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &moment.tm_year, &moment.tm_mon, &moment.tm_mday,
                    &moment.tm_hour, &moment.tm_min, &moment.tm_sec, &read) != 6 ||
        text.back() != 'Z') {
        return std::nullopt;
    }
    moment.tm_year -= 1900;
    moment.tm_mon -= 1;
    return ::timegm(&moment);
}

std::string render_age(std::time_t seconds) {
    seconds = std::max<std::time_t>(seconds, 0);
    struct Unit {
        std::time_t limit, divisor;
        const char* sign;
    };
    constexpr std::time_t k_minute = 60, k_hour = 60 * k_minute, k_day = 24 * k_hour, k_week = 7 * k_day;
    constexpr Unit k_units[] = {{k_minute, 1, "s"}, {k_hour, k_minute, "m"}, {2 * k_day, k_hour, "h"}, {8 * k_week, k_day, "d"}};
    for (const auto& unit : k_units) {
        if (seconds < unit.limit) { return std::to_string(seconds / unit.divisor) + unit.sign; }
    }
    return std::to_string(seconds / k_week) + "w";
}

std::string render_moment(std::string_view rfc3339, std::time_t now) {
    const auto moment = parse_time(rfc3339);
    if (!moment) { return {}; }
    std::tm local{};
    ::localtime_r(&*moment, &local);
    const bool recent = now - *moment < 24 * 3600 && *moment <= now;
    char text[32];
    const auto size = std::strftime(text, sizeof(text), recent ? "%H:%M" : "%Y-%m-%d %H:%M", &local);
    return std::string(text, size);
}

std::string text_field(const Json& object, std::string_view name) {
    if (!object.is_object()) { return {}; }
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? printable(found->get_ref<const std::string&>()) : std::string();
}

std::optional<long long> number_field(const Json& object, std::string_view name) {
    if (!object.is_object()) { return std::nullopt; }
    const auto found = object.find(name);
    if (found == object.end() || !found->is_number_integer()) { return std::nullopt; }
    return found->get<long long>();
}

const Json& inner_field(const Json& object, std::string_view name) {
    static const Json k_null;
    if (!object.is_object()) { return k_null; }
    const auto found = object.find(name);
    return found != object.end() && found->is_structured() ? *found : k_null;
}

std::string render_lease_name(const Json& lease) {
    auto name = project_name(lease) + '/' + text_field(lease, "service");
    if (const auto instance = number_field(lease, "instance"); instance.value_or(0) > 0) {
        name += '#' + std::to_string(*instance);
    }
    return name;
}

std::string render_leases(const Json& leases, bool with_project, TableForm form, const Style& style) {
    const bool csv = form == TableForm::csv;
    std::vector<Column> columns;
    if (with_project) { columns.push_back({"PROJECT", false, 12}); }
    for (const Column& column : {Column{"SERVICE", false, 10}, Column{"PORT", true, 0}, Column{"ASKED", true, 0},
                                 Column{"STATE", false, 0}, Column{"HEALTH", false, 0}, Column{"PID", true, 0},
                                 Column{csv ? "ALLOCATED_AT" : "AGE", true, 0}, Column{"DESCRIPTION", false, 8}}) {
        columns.push_back(column);
    }
    std::vector<std::vector<Cell>> rows;
    for (const auto& lease : leases) {
        std::vector<Cell> row;
        if (with_project) {
            const auto branch = text_field(inner_field(lease, "project"), "branch");
            row.push_back({project_name(lease) + (branch.empty() ? "" : " (" + branch + ")")});
        }
        const auto instance = number_field(lease, "instance").value_or(0);
        row.push_back({text_field(lease, "service") + (instance > 0 ? '#' + std::to_string(instance) : std::string())});
        const auto protocol = text_field(lease, "protocol");
        const auto suffix = protocol.empty() || protocol == "tcp" ? "" : '/' + protocol;
        row.push_back({number_or_dash(lease, "port") + suffix, Colour::bold});
        row.push_back({number_or_dash(lease, "requested_port")});
        const auto state = text_field(lease, "state");
        row.push_back({state, colour_of_state(state)});
        const auto health = text_field(lease, "health");
        row.push_back({health == "unknown" ? "-" : health, colour_of_health(health)});
        row.push_back({number_or_dash(inner_field(lease, "holder"), "pid")});
        const auto allocated_at = text_field(lease, "allocated_at");
        const auto since = parse_time(allocated_at);
        row.push_back({csv ? allocated_at : since ? render_age(style.now - *since) : "-"});
        row.push_back({text_field(lease, "description")});
        rows.push_back(std::move(row));
    }
    return form == TableForm::aligned ? render_table(columns, rows, style) : render_plain(columns, rows, form);
}

std::string render_check(const Json& result, const Style& style) {
    const auto available = result.find("available");
    const bool free = available != result.end() && *available == true;
    const auto code = text_field(result, "code");
    std::string text = "port " + number_or_dash(result, "port") + ": ";
    text += painted(free ? "free" : "taken", free ? Colour::green : Colour::red, style);
    text += (free || code.empty() ? "" : " (" + code + ")");
    text += '\n';
    if (const auto& lease = inner_field(result, "lease"); lease.is_object()) {
        const auto claimed = result.find("claimed");
        const bool kept = claimed != result.end() && *claimed == true;
        std::string line = kept ? "  kept for: " + render_lease_name(lease) : "  lease: " + render_lease_name(lease) + ", " + text_field(lease, "state");
        if (const auto asked = number_field(lease, "requested_port"); asked.value_or(0) > 0) {
            line += ", asked for " + std::to_string(*asked);
        }
        line += process_part(inner_field(lease, "holder"));
        text += cut_line(std::move(line), style);
        auto root = "    in " + text_field(inner_field(lease, "project"), "root");
        if (const auto since = render_moment(text_field(lease, "allocated_at"), style.now); !since.empty()) {
            root += ", since " + since;
        }
        text += cut_line(std::move(root), style);
    }
    if (const auto& block = inner_field(result, "block"); block.is_object()) {
        text += cut_line("  block: " + number_or_dash(block, "start") + "-" + number_or_dash(block, "end") + " of " +
                             text_field(inner_field(block, "project"), "root"), style);
    }
    for (const auto& note : inner_field(result, "notes")) {
        if (note.is_string()) { text += cut_line("  note: " + note.get<std::string>(), style); }
    }
    for (const auto& listener : inner_field(result, "listeners")) { text += listener_lines(listener, style); }
    if (const auto free_ones = joined_numbers(inner_field(result, "suggestions")); !free && !free_ones.empty()) {
        text += "  free: " + free_ones + '\n';
    }
    return text;
}

std::string render_who(const Json& result, const Style& style) {
    const auto& listeners = inner_field(result, "listeners");
    std::string text = "port " + number_or_dash(result, "port") + ": ";
    text += listeners.empty() ? "nobody listens\n" : std::to_string(listeners.size()) + (listeners.size() == 1 ? " listener\n" : " listeners\n");
    for (const auto& listener : listeners) {
        text += listener_lines(listener, style);
        for (const auto& parent : inner_field(listener, "parents")) {
            text += cut_line("    started by pid " + number_or_dash(parent, "pid") + ", " + text_field(parent, "command"), style);
        }
    }
    return text;
}

namespace {

/// "3000-3999", or several with commas.
std::string render_intervals(const Json& intervals) {
    std::string text;
    for (const auto& part : intervals) {
        const auto start = number_field(part, "start").value_or(0);
        const auto end = number_field(part, "end").value_or(0);
        text += (text.empty() ? "" : ", ") + std::to_string(start) + (end > start ? '-' + std::to_string(end) : std::string());
    }
    return text;
}

}  // namespace

std::string percent_field(const Json& object, std::string_view name) {
    if (!object.is_object()) { return "-"; }
    const auto found = object.find(name);
    if (found == object.end() || !found->is_number()) { return "-"; }
    char text[32];
    const int size = std::snprintf(text, sizeof(text), "%.1f", found->get<double>());
    return std::string(text, static_cast<std::size_t>(std::max(size, 0)));
}

std::string render_ranges(const Json& ranges, bool gaps, const Style& style) {
    std::vector<Column> columns{{"RANGE", false, 0}};
    if (gaps) {
        columns.push_back({"FREE", true, 0});
        columns.push_back({"STRETCHES", false, 12});
    } else {
        for (const Column& column : {Column{"KIND", false, 0}, Column{"PORTS", false, 9}, Column{"USED", true, 0}, Column{"ACTIVE", true, 0},
                                     Column{"FREE", true, 0}, Column{"%", true, 0}, Column{"NEXT", true, 0}, Column{"DESCRIPTION", false, 8}}) {
            columns.push_back(column);
        }
    }
    std::vector<std::vector<Cell>> rows;
    for (const auto& range : ranges) {
        const Cell name{text_field(range, "name"), Colour::bold};
        const Cell free{number_or_dash(range, "available")};
        if (gaps) {
            const auto stretches = render_intervals(inner_field(range, "gaps"));
            rows.push_back({name, free, {stretches.empty() ? "-" : stretches}});
            continue;
        }
        const auto full = range.find("nearly_full");
        const auto colour = full != range.end() && *full == true ? Colour::red : Colour::none;
        rows.push_back({name, {text_field(range, "kind")}, {render_intervals(inner_field(range, "intervals"))}, {number_or_dash(range, "allocated")},
                        {number_or_dash(range, "active")}, free, {percent_field(range, "utilization"), colour}, {number_or_dash(range, "next")},
                        {text_field(range, "description")}});
    }
    return render_table(columns, rows, style);
}

std::string render_summary(const Json& result, const Style& style) {
    const auto& project = inner_field(result, "project");
    const auto& range = inner_field(result, "range");
    auto text = cut_line(text_field(project, "name") + " in " + text_field(project, "root"), style);
    text += cut_line("  range      " + text_field(range, "name") + ", " + render_intervals(inner_field(range, "intervals")) + " (" +
                         number_or_dash(result, "total") + " ports)", style);
    text += "  allocated  " + number_or_dash(result, "allocated") + " (" + number_or_dash(result, "active") + " active), " +
            percent_field(result, "utilization") + " %\n";
    text += "  available  " + number_or_dash(result, "available") + '\n';
    if (number_field(result, "elsewhere").value_or(0) > 0) { text += "  elsewhere  " + number_or_dash(result, "elsewhere") + '\n'; }
    return text;
}

std::string render_event(const Json& event, const Style& style) {
    const auto& lease = inner_field(event, "lease");
    const auto at = parse_time(text_field(event, "at"));
    char when[32] = "";
    if (at) {
        std::tm local{};
        ::localtime_r(&*at, &local);
        std::strftime(when, sizeof(when), style.now - *at < 12 * 3600 ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &local);
    }
    auto what = text_field(event, "event");
    const auto colour = what == "activated" ? Colour::green : what == "conflicted" ? Colour::red : Colour::none;
    what.resize(std::max<std::size_t>(what.size(), 10), ' ');
    const auto process = process_part(inner_field(lease, "holder"));
    auto rest = number_or_dash(lease, "port") + "  " + render_lease_name(lease) + (process.empty() ? "" : "  (" + process.substr(2) + ")");
    const auto used = std::string_view(when).size() + what.size() + 4;
    if (style.width > used) { rest = shorten(rest, style.width - used); }
    return std::string(when) + "  " + painted(what, colour, style) + "  " + rest + '\n';
}

std::string render_refusal(const Json& refusal) {
    auto text = text_field(refusal, "message");
    if (const auto free_ones = joined_numbers(inner_field(refusal, "suggestions")); !free_ones.empty()) {
        text += " (free: " + free_ones + ")";
    }
    return text;
}

}  // namespace portwrap
