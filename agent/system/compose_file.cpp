// See compose_file.hpp.
#include "system/compose_file.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "core/port_text.hpp"
#include "system/bounded_read.hpp"

namespace portwrap {
namespace {

/// As compose looks for them.
constexpr std::array<const char*, 4> k_names{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"};
constexpr std::size_t k_max_services = 256;
constexpr std::size_t k_max_ports = 64;
constexpr std::size_t k_max_port_text = 128;
constexpr int k_max_merges = 256;

struct Line {
    std::size_t indent = 0;
    std::string_view text;
};

/// Which characters of a text, taken one after the other, are quoted.
class Quotes {
public:
    /// True for the quotes themselves, too.
    bool take(char c) {
        const bool quoted = m_open != 0 || c == '"' || c == '\'';
        if (m_open == 0) {
            m_open = quoted ? c : '\0';
        } else if (c == m_open) {
            m_open = '\0';
        }
        return quoted;
    }

private:
    char m_open = '\0';
};

std::string_view without_comment(std::string_view text) {
    Quotes quotes;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (!quotes.take(text[at]) && text[at] == '#' && (at == 0 || text[at - 1] == ' ')) {
            return text.substr(0, at);
        }
    }
    return text;
}

std::vector<Line> lines_of(std::string_view text) {
    std::vector<Line> lines;
    while (!text.empty()) {
        const auto end = text.find('\n');
        const auto line = without_comment(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        const auto content = trimmed(line);
        if (!content.empty() && content != "---") { lines.push_back({line.find_first_not_of(' '), content}); }
    }
    return lines;
}

std::string_view unquoted(std::string_view text) {
    text = trimmed(text);
    const bool quoted = text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front();
    return quoted ? text.substr(1, text.size() - 2) : text;
}

struct Entry {
    std::string_view key;
    std::string_view value;
};
/// "key: value"; an empty key for anything else.
Entry entry_of(std::string_view text) {
    for (auto at = text.find(':'); at != std::string_view::npos; at = text.find(':', at + 1)) {
        if (at + 1 == text.size() || text[at + 1] == ' ') { return {unquoted(text.substr(0, at)), trimmed(text.substr(at + 1))}; }
    }
    return {};
}

/// "${WEB:-8000}" and "${A:-${B:-8000}}" as 8000; a variable without a default ("${WEB:?set it}") as nothing.
std::string_view default_of(std::string_view text) {
    while (text.starts_with("${") && text.ends_with('}')) {
        text = text.substr(2, text.size() - 3);
        text.remove_prefix(std::min(text.find_first_of(":-?+"), text.size()));
        if (text.starts_with(':')) { text.remove_prefix(1); }
        if (!text.starts_with('-')) { return {}; }
        text.remove_prefix(1);
    }
    return text.starts_with('$') ? std::string_view() : text;
}

/// "a:b" split at colons that are in no brackets or braces.
std::vector<std::string_view> parts_of(std::string_view text) {
    std::vector<std::string_view> parts;
    int depth = 0;
    std::size_t from = 0;
    for (std::size_t at = 0; at <= text.size(); ++at) {
        const char c = at < text.size() ? text[at] : ':';
        depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
        if (c == ':' && (depth == 0 || at == text.size())) {
            parts.push_back(text.substr(from, at - from));
            from = at + 1;
        }
    }
    return parts;
}

/// "a, b" split at commas that are in no quotes, brackets or braces.
std::vector<std::string_view> items_of(std::string_view text) {
    std::vector<std::string_view> items;
    int depth = 0;
    Quotes quotes;
    std::size_t from = 0;
    for (std::size_t at = 0; at < text.size(); ++at) {
        const char c = text[at];
        if (quotes.take(c)) { continue; }
        if (c == ',' && depth == 0) {
            items.push_back(text.substr(from, at - from));
            from = at + 1;
        } else {
            depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
        }
    }
    items.push_back(text.substr(from));
    return items;
}

/// The long syntax, one field a line.
struct LongPort {
    std::string target, published, address, protocol;
    void take(std::string_view line) {
        const auto [key, value] = entry_of(line);
        const auto text = std::string(unquoted(value));
        if (key == "target") { target = text; }
        if (key == "published") { published = text; }
        if (key == "host_ip") { address = text; }
        if (key == "protocol") { protocol = text; }
    }
    [[nodiscard]] std::string in_short() const {
        const bool colons = address.find(':') != std::string::npos && !address.starts_with('[');
        return (address.empty() ? "" : colons ? "[" + address + "]:" : address + ":") + (published.empty() ? "" : published + ":") + target + (protocol.empty() || protocol == "tcp" ? "" : "/" + protocol);
    }
};

class Reader {
public:
    explicit Reader(std::string_view text) : m_lines(lines_of(text)) {}

    std::vector<ComposeService> run() {
        while (m_at < m_lines.size() && !(m_lines[m_at].indent == 0 && entry_of(m_lines[m_at].text).key == "services")) { ++m_at; }
        if (m_at >= m_lines.size() || !entry_of(m_lines[m_at].text).value.empty()) { return {}; }
        ++m_at;
        const auto indent = m_at < m_lines.size() ? m_lines[m_at].indent : 0;
        while (m_at < m_lines.size() && indent > 0 && m_lines[m_at].indent == indent && m_services.size() < k_max_services) {
            const auto [key, value] = entry_of(m_lines[m_at++].text);
            if (value.starts_with('*') || (value.starts_with('{') && value != "{}")) { m_unclear = true; }
            ComposeService service{std::string(key), {}, true};
            read_service(service, indent);
            if (!key.empty() && key != "<<") { m_services.push_back(std::move(service)); }
        }
        if (m_unclear) { return {}; }
        return std::move(m_services);
    }

private:
    /// True if it says what it publishes. A merged mapping counts where the service itself does not; what it extends is added to
    /// its own, from another file perhaps.
    bool read_service(ComposeService& service, std::size_t outer) {
        const auto indent = m_at < m_lines.size() ? m_lines[m_at].indent : 0;
        bool said = false;
        std::vector<std::pair<std::string_view, std::size_t>> merged;
        while (m_at < m_lines.size() && m_lines[m_at].indent > outer) {
            const auto line = m_lines[m_at++];
            if (line.indent != indent) { continue; }
            const auto [key, value] = entry_of(line.text);
            if (key == "extends") { m_unclear = true; }
            if (key == "network_mode") { service.own_network = unquoted(value) == "bridge"; }
            if (key == "<<") { merged.emplace_back(value, m_at - 1); }
            if (key != "ports") { continue; }
            said = true;
            if (value.starts_with('[')) {
                read_flow(service, value);
            } else if (value.empty()) {
                read_list(service, indent);
            } else {
                m_unclear = true;
            }
        }
        for (const auto& [value, at] : merged) { said = said || read_merged(service, value, at); }
        return said;
    }

    /// `<<: *base`, `<<: [*base, *more]`: of several the first one that says it counts.
    bool read_merged(ComposeService& service, std::string_view value, std::size_t before) {
        const bool several = value.starts_with('[') && value.ends_with(']');
        for (const auto item : several ? items_of(value.substr(1, value.size() - 2)) : std::vector{value}) {
            if (read_alias(service, trimmed(item), before)) { return true; }
        }
        return false;
    }

    /// The mapping in block style that was given that name last, before this line.
    bool read_alias(ComposeService& service, std::string_view alias, std::size_t before) {
        if (!alias.starts_with('*') || ++m_merges > k_max_merges) {
            m_unclear = true;
            return false;
        }
        const auto is_named = [&](std::string_view value) { return value.starts_with('&') && value.substr(1, value.find(' ') - 1) == alias.substr(1); };
        for (auto at = before; at-- > 0;) {
            const auto value = entry_of(m_lines[at].text).value;
            if (!is_named(value)) { continue; }
            if (value.find(' ') != std::string_view::npos) { break; }  // "&base {ports: ...}"
            const auto back = std::exchange(m_at, at + 1);
            const bool said = read_service(service, m_lines[at].indent);
            m_at = back;
            return said;
        }
        m_unclear = true;
        return false;
    }

    void add(ComposeService& service, std::string_view text) {
        text = unquoted(text);
        if (text.empty()) { return; }
        auto port = text.starts_with('*') ? std::nullopt : parse_compose_port(text);
        if (!port || service.ports.size() >= k_max_ports) {
            m_unclear = true;
        } else {
            service.ports.push_back(std::move(*port));
        }
    }

    void add(ComposeService& service, const LongPort& port) {
        if (port.target.empty()) { m_unclear = true; }
        add(service, port.in_short());
    }

    /// "8000:80", or the long syntax in braces.
    void add_flow(ComposeService& service, std::string_view text) {
        text = trimmed(text);
        if (!text.starts_with('{') || !text.ends_with('}')) { return add(service, text); }
        LongPort port;
        for (const auto field : items_of(text.substr(1, text.size() - 2))) { port.take(trimmed(field)); }
        add(service, port);
    }

    /// ["8000:80", 443, {target: 80}]
    void read_flow(ComposeService& service, std::string_view list) {
        if (!list.ends_with(']')) {
            m_unclear = true;
            return;
        }
        for (const auto item : items_of(list.substr(1, list.size() - 2))) { add_flow(service, item); }
    }

    /// A list's entries may be indented as far as its name.
    void read_list(ComposeService& service, std::size_t outer) {
        while (m_at < m_lines.size() && m_lines[m_at].indent >= outer && m_lines[m_at].text.starts_with('-')) {
            const auto dash = m_lines[m_at].indent;
            const auto first = trimmed(m_lines[m_at++].text.substr(1));
            const bool goes_on = m_at < m_lines.size() && m_lines[m_at].indent > dash;
            if (first.starts_with('"') || first.starts_with('\'') || first.starts_with('{') || (entry_of(first).key.empty() && !(first.empty() && goes_on))) {
                add_flow(service, first);
                continue;
            }
            LongPort port;
            port.take(first);
            while (m_at < m_lines.size() && m_lines[m_at].indent > dash) { port.take(m_lines[m_at++].text); }
            add(service, port);
        }
    }

    std::vector<Line> m_lines;
    std::size_t m_at = 0;
    int m_merges = 0;
    bool m_unclear = false;  ///< a service may publish ports that were not seen
    std::vector<ComposeService> m_services;
};

}  // namespace

std::optional<ComposePort> parse_compose_port(std::string_view text) {
    if (text.empty() || text.size() > k_max_port_text) { return std::nullopt; }
    const bool plain = std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~' && c != '"' && c != '\\'; });
    if (!plain) { return std::nullopt; }
    ComposePort port;
    port.text = text;
    if (const auto slash = text.rfind('/'); slash != std::string_view::npos) {
        if (text.substr(slash + 1) == "udp") { port.protocol = Protocol::udp; }
        text = text.substr(0, slash);
    }
    const auto parts = parts_of(text);
    if (parts.size() > 3) { return std::nullopt; }
    port.target = port_in(default_of(parts.back())).value_or(0);
    if (parts.size() > 1) { port.published = port_in(default_of(parts[parts.size() - 2])); }
    if (parts.size() == 3 && !parts.front().empty()) { port.address = std::string(parts.front()) + ":"; }
    return port;
}

std::vector<ComposeService> parse_compose(std::string_view text) {
    constexpr std::string_view k_byte_order_mark = "\xEF\xBB\xBF";
    if (text.starts_with(k_byte_order_mark)) { text.remove_prefix(k_byte_order_mark.size()); }
    return Reader(text).run();
}

std::optional<ComposeFile> read_compose_file(const std::string& root, const std::string& given) {
    std::string name = k_names.front();
    std::optional<std::string> text;
    for (const auto* candidate : k_names) {
        text = read_project_file(root + "/" + candidate);
        if (!text) { continue; }
        name = candidate;
        break;
    }
    if (!given.empty()) { text = read_project_file(given); }
    if (!text) { return std::nullopt; }
    const auto turn = turn_for(*text);
    auto services = parse_compose(*text);
    if (services.empty()) { return std::nullopt; }
    return ComposeFile{std::move(name), std::move(services)};
}

}  // namespace portwrap
