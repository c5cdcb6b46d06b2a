// Each format yields records (a field's name -> its text); one function turns a record of any of them into a row. So the
// same words mean the same everywhere, and 70000, -1, 80.9, true and "3000 " are no ports in any of them.
#include "service/exchange/read_rows.hpp"

#include <algorithm>
#include <cctype>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "service/exchange/write_text.hpp"
#include "service/requests.hpp"
#include "service/wire.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

using Record = std::map<std::string, std::string, std::less<>>;
using Names = std::span<const std::string_view>;
template <std::size_t N>
using Aliases = std::array<std::string_view, N>;

constexpr Aliases<4> k_port_names{"port", "port_number", "assigned_port", "host_port"};
constexpr Aliases<8> k_project_names{"project", "project_name", "worktree", "worktree_name", "application", "application_name", "app", "app_name"};
constexpr Aliases<9> k_directory_names{"root", "project_root", "worktree_path", "path", "project_path", "directory", "dir", "cwd", "working_directory"};
constexpr Aliases<2> k_state_names{"state", "status"};
constexpr Aliases<2> k_requested_names{"requested_port", "asked"};
constexpr Aliases<2> k_service_names{"service", "service_name"};
constexpr Aliases<1> k_protocol_names{"protocol"};
constexpr Aliases<1> k_instance_names{"instance"};
constexpr Aliases<2> k_environment_names{"environment", "env"};
constexpr Aliases<1> k_kind_names{"kind"};
constexpr Aliases<2> k_description_names{"description", "notes"};
constexpr Aliases<2> k_hostname_names{"hostname", "cloudflare_hostname"};
constexpr Aliases<1> k_range_names{"range"};
constexpr Aliases<3> k_allocator_names{"allocated_by", "owner", "created_by"};
constexpr Aliases<5> k_allocated_names{"allocated_at", "allocated", "assigned_at", "created_at", "registered_at"};
constexpr Aliases<4> k_active_names{"last_active_at", "last_seen", "last_used", "last_used_at"};
constexpr Aliases<2> k_expires_names{"expires_at", "expires"};
constexpr Aliases<1> k_own_names{"name"};  ///< of a project that is an object, or of an application

/// All fields that are read: what else a JSON file has is not kept.
constexpr std::array<Names, 18> k_fields{k_port_names,     k_project_names, k_directory_names,   k_state_names,    k_requested_names, k_service_names,
                                         k_protocol_names, k_instance_names, k_environment_names, k_kind_names,     k_description_names, k_hostname_names,
                                         k_range_names,    k_allocator_names, k_allocated_names,  k_active_names,   k_expires_names,   k_own_names};

bool is_field(std::string_view name) {
    return std::any_of(k_fields.begin(), k_fields.end(), [&](Names names) { return std::find(names.begin(), names.end(), name) != names.end(); });
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) { text.remove_prefix(1); }
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) { text.remove_suffix(1); }
    return text;
}

std::string lowered(std::string_view text) {
    std::string low(text);
    for (char& c : low) { c = static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }
    return low;
}

/// "Allocated by" is allocated_by.
std::string field_name(std::string_view title) {
    auto name = lowered(trimmed(title));
    std::replace(name.begin(), name.end(), ' ', '_');
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
}

std::string field(const Record& record, Names names) {
    for (const auto name : names) {
        if (const auto found = record.find(name); found != record.end() && !found->second.empty()) { return found->second; }
    }
    return {};
}

std::optional<std::uint64_t> whole_number(std::string_view text, std::uint64_t max) {
    if (text.empty() || text.size() > 9 || !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) { return std::nullopt; }
    std::uint64_t value = 0;
    for (const char c : text) { value = value * 10 + static_cast<std::uint64_t>(c - '0'); }
    return value <= max ? std::optional(value) : std::nullopt;
}

std::optional<Environment> environment_of(const std::string& word) {
    if (word.empty() || word == "development") { return Environment::dev; }
    if (word == "testing") { return Environment::test; }
    if (word == "prod") { return Environment::production; }
    return from_word<Environment>(word);
}

std::optional<LeaseState> state_of(const std::string& word) {
    if (word.empty() || word == "assigned" || word == "stopped" || word == "inactive" || word == "idle" || word == "conflict") { return LeaseState::allocated; }
    if (word == "in_use" || word == "in use" || word == "in-use" || word == "running" || word == "listening") { return LeaseState::active; }
    if (word == "free" || word == "available" || word == "deleted") { return LeaseState::released; }
    return from_word<LeaseState>(word);
}

/// A reason, or the row in `row`.
std::string read_record(const Record& record, ImportRow& row) {
    const auto shown = [](const std::string& text) { return "\"" + printable(text, 64) + "\""; };
    const auto port_text = field(record, k_port_names);
    if (port_text.empty()) { return "there is no port"; }
    const auto port = whole_number(port_text, 65535);
    if (!port || *port == 0) { return shown(port_text) + " is not a port (an integer from 1 to 65535)"; }
    row.port = static_cast<Port>(*port);
    if (const auto text = field(record, k_requested_names); !text.empty()) {
        const auto requested = whole_number(text, 65535);
        if (!requested) { return "the requested port " + shown(text) + " is not a port"; }
        // The number of somebody's port 0 means nothing to anybody else.
        if (*requested != 0) { row.requested = static_cast<Port>(*requested); }
    }
    row.name = field(record, k_project_names);
    row.directory = field(record, k_directory_names);
    if (row.directory.empty() && row.name.starts_with('/')) { row.directory = std::exchange(row.name, {}); }
    if (row.name.size() > 4096 || row.directory.size() > 4096 || row.directory.find('\0') != std::string::npos) { return "the project's name is too long"; }
    if (!row.directory.empty() && !row.directory.starts_with('/')) { return shown(row.directory) + " is not an absolute path"; }
    row.service = field(record, k_service_names);
    if (row.service.empty()) { row.service = "main"; }
    if (!is_service_name(row.service)) { return "the service " + shown(row.service) + " " + k_service_rule; }
    const auto protocol = lowered(field(record, k_protocol_names));
    if (const auto known = from_word<Protocol>(protocol.empty() ? "tcp" : protocol)) {
        row.protocol = *known;
    } else {
        return shown(protocol) + " is not a protocol (tcp, udp)";
    }
    if (const auto text = field(record, k_instance_names); !text.empty()) {
        const auto instance = whole_number(text, 9999);
        if (!instance) { return shown(text) + " is not an instance"; }
        row.instance = static_cast<int>(*instance);
    }
    const auto environment = lowered(field(record, k_environment_names));
    if (const auto known = environment_of(environment)) {
        row.environment = *known;
    } else {
        return shown(environment) + " is not an environment (dev, test, production)";
    }
    const auto state = lowered(field(record, k_state_names));
    const auto known = state_of(state);
    if (!known) { return shown(state) + " is not a state"; }
    if (*known == LeaseState::released) { return "it is " + printable(state, 64) + ": there is nothing to take in"; }
    row.state = *known == LeaseState::conflict ? LeaseState::allocated : *known;
    const auto text_of = [&](Names names, std::size_t limit, std::optional<std::string>& into) {
        auto text = field(record, names);
        if (text.size() > limit) { return false; }
        if (!text.empty()) { into = printable(text, limit); }
        return true;
    };
    if (!text_of(k_kind_names, 64, row.kind)) { return "the kind is too long"; }
    if (!text_of(k_description_names, 1024, row.description)) { return "the description is too long"; }
    if (const auto hostname = field(record, k_hostname_names); !hostname.empty()) {
        if (!is_hostname(hostname)) { return shown(hostname) + " " + k_hostname_rule; }
        row.hostname = hostname;
    }
    if (const auto range = field(record, k_range_names); range.size() <= 64) { row.range = range; }
    row.allocated_by = printable(field(record, k_allocator_names));
    row.allocated_at = lenient_time(field(record, k_allocated_names));
    row.last_active_at = lenient_time(field(record, k_active_names));
    const auto expires = field(record, k_expires_names);
    row.expires_at = lenient_time(expires);
    if (row.state == LeaseState::reserved && !expires.empty() && !row.expires_at) { return "the reservation's end " + shown(expires) + " is not a time"; }
    return {};
}

Error too_many_rows() { return {ErrorCode::invalid_request, "it has more than " + std::to_string(k_import_rows) + " rows; import it in parts"}; }

/// Is there room for one more?
bool has_room(const RowsRead& read) { return read.rows.size() + read.refused.size() < k_import_rows; }

void add_record(RowsRead& read, int number, const Record& record) {
    ImportRow row;
    row.row = number;
    if (auto reason = read_record(record, row); !reason.empty()) {
        read.refused.push_back({number, std::move(reason)});
    } else {
        read.rows.push_back(std::move(row));
    }
}

// --- tables of text ------------------------------------------------------------------------------------------------

constexpr std::size_t k_max_cells = 256;         ///< of a row: what is beyond is counted only
constexpr std::size_t k_max_cell_bytes = 8192;  ///< more than any field may have: the rest is not kept

struct TableRow {
    int line = 0;
    std::vector<std::string> cells{};
    std::size_t count = 0;  ///< cells that the line has

    void add(std::string_view cell) {
        if (++count <= k_max_cells) { cells.emplace_back(cell); }
    }
};

constexpr const char* k_no_titles = "the first line must name the columns, one of them \"port\" (as in port,project,service)";

bool is_port_title(const std::string& cell) { return std::find(k_port_names.begin(), k_port_names.end(), field_name(cell)) != k_port_names.end(); }

bool has_port_title(const TableRow& row) { return std::any_of(row.cells.begin(), row.cells.end(), is_port_title); }

/// |---|---:| of markdown, ----+---- of psql.
bool is_rule(const std::vector<std::string>& cells) {
    return std::all_of(cells.begin(), cells.end(), [](const std::string& cell) {
        return cell.find('-') != std::string::npos && cell.find_first_not_of("-+: ") == std::string::npos;
    });
}

/// What psql writes around its rows: the line below the titles, "(2 rows)" in any language.
bool is_frame(const std::vector<std::string>& cells) {
    if (cells.size() != 1) { return false; }
    const auto& cell = cells.front();
    return is_rule(cells) || (cell.size() > 2 && cell.starts_with('(') && cell.ends_with(')') && cell[1] >= '0' && cell[1] <= '9');
}

/// Rows go to `take` one by one, until it says false.
using TakeRow = std::function<bool(TableRow)>;
using SplitTable = std::function<void(std::string_view text, const TakeRow& take)>;

void add_to_cell(std::string& cell, char c) {
    if (cell.size() < k_max_cell_bytes) { cell += c; }
}

/// RFC 4180, also with another separator; quotes inside of quotes are doubled.
void split_csv(std::string_view text, char separator, const TakeRow& take) {
    TableRow row{1};
    std::string cell;
    bool quoted = false;
    bool was_quoted = false;
    int line = 1;
    const auto end_cell = [&] {
        const auto value = was_quoted ? std::string_view(cell) : trimmed(cell);
        row.add(!was_quoted && (value == "\\N" || value == "NULL") ? std::string_view() : value);
        cell.clear();
        was_quoted = false;
    };
    const auto end_row = [&] {
        end_cell();
        auto ended = std::exchange(row, TableRow{line});
        return (ended.count == 1 && ended.cells.front().empty()) || take(std::move(ended));
    };
    for (std::size_t at = 0; at < text.size(); ++at) {
        const char c = text[at];
        if (c == '\n') { ++line; }
        if (quoted) {
            if (c == '"' && at + 1 < text.size() && text[at + 1] == '"') {
                add_to_cell(cell, '"');
                ++at;
            } else if (c == '"') {
                quoted = false;
            } else {
                add_to_cell(cell, c);
            }
        } else if (c == '"' && trimmed(cell).empty() && !was_quoted) {
            cell.clear();
            quoted = was_quoted = true;
        } else if (c == separator) {
            end_cell();
        } else if (c == '\n') {
            if (!end_row()) { return; }
        } else if (c != '\r') {
            add_to_cell(cell, c);
        }
    }
    (void)end_row();
}

/// The first table of the document; the rule below its titles is none of its rows.
void split_markdown(std::string_view text, const TakeRow& take) {
    int number = 0;
    int rows = 0;
    while (!text.empty()) {
        const auto end = text.find('\n');
        auto line = trimmed(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        ++number;
        if (line.starts_with("+-")) { continue; }  // a frame that a database's client draws
        if (!line.starts_with('|')) {
            if (rows > 0) { return; }
            continue;
        }
        line.remove_prefix(1);
        TableRow row{number};
        std::string cell;
        for (std::size_t at = 0; at < line.size(); ++at) {
            if (line[at] == '\\' && at + 1 < line.size() && (line[at + 1] == '|' || line[at + 1] == '\\')) {
                add_to_cell(cell, line[++at]);
            } else if (line[at] == '|') {
                row.add(trimmed(cell));
                cell.clear();
            } else {
                add_to_cell(cell, line[at]);
            }
        }
        if (!trimmed(cell).empty()) { row.add(trimmed(cell)); }
        if (++rows == 2 && is_rule(row.cells)) { continue; }
        if (!take(std::move(row))) { return; }
    }
}

TableRow first_row(std::string_view text, const SplitTable& split) {
    TableRow first;
    split(text, [&](TableRow row) {
        first = std::move(row);
        return false;
    });
    return first;
}

Result<RowsRead> read_table(std::string_view text, const SplitTable& split, ImportFormat format) {
    RowsRead read;
    read.format = format;
    std::vector<std::string> titles;
    std::optional<Error> problem;
    bool is_first = true;
    split(text, [&](const TableRow& row) {
        if (std::exchange(is_first, false)) {
            if (!has_port_title(row)) { problem = Error{ErrorCode::invalid_request, k_no_titles}; }
            if (row.count > k_max_cells) { problem = Error{ErrorCode::invalid_request, "it has more than " + std::to_string(k_max_cells) + " columns"}; }
            for (const auto& cell : row.cells) { titles.push_back(field_name(cell)); }
            return !problem;
        }
        if (is_frame(row.cells)) { return true; }
        if (!has_room(read)) {
            problem = too_many_rows();
            return false;
        }
        if (row.count != titles.size()) {
            read.refused.push_back({row.line, "it has " + std::to_string(row.count) + " fields, the first row has " + std::to_string(titles.size())});
            return true;
        }
        Record record;
        for (std::size_t column = 0; column < titles.size(); ++column) { record.emplace(titles[column], row.cells[column]); }
        add_record(read, row.line, record);
        return true;
    });
    if (is_first) { return Error{ErrorCode::invalid_request, "there is no table"}; }
    if (problem) { return *problem; }
    return read;
}

/// The separator that the first line has most of.
char separator_of(std::string_view text) {
    const auto first = text.substr(0, text.find('\n'));
    char best = ',';
    for (const char candidate : {';', '\t', '|'}) {
        if (std::count(first.begin(), first.end(), candidate) > std::count(first.begin(), first.end(), best)) { best = candidate; }
    }
    return best;
}

/// By the separator that the text's first line has.
SplitTable as_csv(std::string_view text) {
    return [separator = separator_of(text)](std::string_view all, const TakeRow& take) { split_csv(all, separator, take); };
}

/// Is there a port in the first line, where the columns should be named?
bool begins_with_values(std::string_view text) {
    const auto first = first_row(trimmed(text), as_csv(trimmed(text)));
    return std::any_of(first.cells.begin(), first.cells.end(), [](const std::string& cell) { return whole_number(cell, 65535).value_or(0) != 0; });
}

/// API_PORT=3001; a comment "# service: packages/web" says the name that cannot be read from the variable's.
Result<RowsRead> read_env(std::string_view text) {
    RowsRead read;
    read.format = ImportFormat::env;
    int number = 0;
    std::string named;
    while (!text.empty()) {
        const auto end = text.find('\n');
        auto line = trimmed(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        ++number;
        constexpr std::string_view k_service = "# service: ";
        if (line.starts_with(k_service)) { named = std::string(line.substr(k_service.size())); }
        if (line.starts_with('#')) { continue; }
        if (line.starts_with("export ")) { line = trimmed(line.substr(7)); }
        const auto equals = line.find('=');
        const auto service = std::exchange(named, {});
        if (equals == std::string_view::npos) { continue; }
        const auto name = trimmed(line.substr(0, equals));
        auto value = trimmed(line.substr(equals + 1));
        if (value.size() >= 2 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front()) { value = value.substr(1, value.size() - 2); }
        const auto said = read_variable_name(name);
        if (!said) { continue; }
        if (!has_room(read)) { return too_many_rows(); }
        const Record record{{"port", std::string(value)}, {"service", service.empty() ? said->service : service}, {"instance", std::to_string(said->instance)}};
        add_record(read, number, record);
    }
    return read;
}

// --- JSON ----------------------------------------------------------------------------------------------------------

constexpr std::size_t k_depth = 16;
constexpr std::size_t k_max_kept = 32 * k_import_rows;     ///< fields of all rows; ours have half as many
constexpr std::size_t k_max_kept_bytes = 4 * 1024 * 1024;  ///< of their texts

/// What holds the rows in a format; whatever stands beside it is not kept.
constexpr std::array<std::pair<std::string_view, ImportFormat>, 4> k_collections{{{"leases", ImportFormat::json},
                                                                                  {"applications", ImportFormat::applications},
                                                                                  {"allocations", ImportFormat::worktrees},
                                                                                  {"ports", ImportFormat::ports}}};
constexpr const char* k_no_collection = "it has no \"leases\", \"allocations\", \"applications\" or \"ports\"";

bool is_digits(std::string_view text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos; }

/// Builds the rows of a file while it is parsed, and nothing else: a file may be megabytes of brackets, or of names for one field. It stops
/// the parser at the first problem.
class JsonRows : public nlohmann::json_sax<Json> {
public:
    JsonRows() {
        for (const auto& [name, format] : k_collections) { m_found.push_back({name, {format, {}, {}}}); }
    }

    std::string problem;

    /// The rows of a format, of the first that the file has without one.
    Result<RowsRead> rows(std::optional<ImportFormat> wanted) {
        auto chosen = m_found.begin();
        while (chosen != m_found.end() && (wanted ? chosen->rows.format != *wanted : !chosen->stands)) { ++chosen; }
        if (chosen == m_found.end()) { return Error{ErrorCode::invalid_request, k_no_collection}; }
        if (!chosen->has_rows) { return Error{ErrorCode::invalid_request, "it has no \"" + std::string(chosen->name) + "\" with rows"}; }
        return std::move(chosen->rows);
    }

    bool null() override { return scalar(Kind::other, {}); }
    bool boolean(bool value) override { return scalar(Kind::other, value ? "true" : "false"); }
    bool number_integer(number_integer_t value) override { return scalar(Kind::number, std::to_string(value)); }
    bool number_unsigned(number_unsigned_t value) override { return scalar(Kind::number, std::to_string(value)); }
    bool number_float(number_float_t value, const string_t&) override { return scalar(Kind::number, Json(value).dump()); }
    bool string(string_t& value) override { return scalar(Kind::text, std::move(value)); }
    bool binary(binary_t&) override { return true; }  // JSON has none
    bool start_object(std::size_t) override { return begin(true); }
    bool start_array(std::size_t) override { return begin(false); }
    bool end_array() override { return end(); }
    bool end_object() override {
        if (m_levels.back().part == Part::row) { end_row(); }
        return end();
    }
    bool key(string_t& key) override {
        if (m_levels.size() > k_depth) { return stop_at_depth(); }
        auto& level = m_levels.back();
        if (level.part == Part::document) { m_inside = collection_named(key); }
        level.is_kept = level.part == Part::keyed || (level.part == Part::document && m_inside != nullptr) ||
                        ((level.part == Part::row || level.part == Part::project) && is_field(field_name(key)));
        if (!level.is_kept) { return true; }
        if (!level.keys.insert(key).second) { return stop("the key \"" + printable(key, 64) + "\" stands twice"); }
        if (++m_kept > k_max_kept) { return stop(k_too_large); }
        if (level.part == Part::document) { m_inside->stands = true; }
        if (level.part == Part::keyed && level.keys.size() > k_import_rows) { return stop(too_many_rows().message); }
        level.key = std::move(key);
        return keep_bytes(level.key.size());
    }
    bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return stop("it is not JSON"); }

private:
    /// What an object or an array is: `list` and `keyed` are collections of rows, `entries` are several rows of one key.
    enum class Part { document, list, keyed, entries, row, project, left_out };
    enum class Kind { text, number, other };
    struct Level {
        Part part = Part::left_out;
        bool is_kept = true;  ///< what stands under `key`
        std::string key{};    ///< the last one
        std::set<std::string> keys{};
    };
    /// A field's text, and the key that it stood under: of several that mean one field, the last in the order of their bytes counts.
    struct Field {
        std::string key;
        std::string text;
    };
    struct Found {
        std::string_view name;
        RowsRead rows;
        bool stands = false;    ///< in the file
        bool has_rows = false;  ///< it is an object or an array
        int last_row = 0;
    };
    static constexpr const char* k_too_large = "there is too much in it; import it in parts";

    bool stop(std::string why) {
        problem = std::move(why);
        return false;
    }
    bool stop_at_depth() { return stop("it is nested deeper than " + std::to_string(k_depth) + " levels"); }
    bool keep_bytes(std::size_t bytes) { return (m_kept_bytes += bytes) <= k_max_kept_bytes || stop(k_too_large); }

    /// Null where a member of the document is none.
    Found* collection_named(std::string_view name) {
        const auto found = std::find_if(m_found.begin(), m_found.end(), [&](const Found& entry) { return entry.name == name; });
        return found == m_found.end() ? nullptr : &*found;
    }

    /// Does a value that comes now stand for a row?
    [[nodiscard]] static bool holds_rows(Part part) { return part == Part::list || part == Part::keyed || part == Part::entries; }
    /// Keyed by port where nothing else says it; the project is the `name`.
    [[nodiscard]] bool is_applications() const { return m_inside->rows.format == ImportFormat::applications; }
    /// The field that a key is which is no port.
    [[nodiscard]] const char* key_is() const { return m_inside->rows.format == ImportFormat::worktrees ? "worktree" : "project"; }

    /// Counts a row that begins; false when there are too many.
    bool count_row() {
        ++m_inside->last_row;
        return ++m_rows <= k_import_rows || stop(too_many_rows().message);
    }
    void refuse_row() { m_inside->rows.refused.push_back({m_inside->last_row, "it is not an object"}); }

    bool begin(bool is_object) {
        if (m_levels.size() > k_depth) { return stop_at_depth(); }
        if (m_levels.empty()) {
            if (!is_object) { return stop(k_no_collection); }
            m_levels.push_back({Part::document});
            return true;
        }
        const auto around = m_levels.back().part;
        auto part = Part::left_out;
        if (around == Part::document && m_levels.back().is_kept) {
            m_inside->has_rows = true;
            part = is_object ? Part::keyed : Part::list;
        } else if (around == Part::keyed && !is_object) {
            part = Part::entries;
        } else if (holds_rows(around)) {
            if (!count_row()) { return false; }
            if (is_object) {
                part = Part::row;
                m_fields.clear();
                m_own_name.reset();
            } else {
                refuse_row();
            }
        } else if (around == Part::row && is_object && m_levels.back().is_kept && field_name(m_levels.back().key) == "project") {
            part = Part::project;
        }
        m_levels.push_back({part});
        return true;
    }

    bool end() {
        m_levels.pop_back();
        return true;
    }

    bool scalar(Kind kind, std::string text) {
        if (m_levels.empty()) { return stop(k_no_collection); }
        const auto& level = m_levels.back();
        if (level.part == Part::left_out || !level.is_kept) { return true; }
        if (kind == Kind::text && !keep_bytes(text.size())) { return false; }
        if (holds_rows(level.part)) { return count_row() && add_scalar_row(kind, std::move(text)); }
        if (level.part == Part::row) {
            if (kind == Kind::other && text.empty()) { return true; }  // null
            if (level.key == "name") { m_own_name = text; }
            set_field(field_name(level.key), level.key, std::move(text));
        } else if (level.part == Part::project && kind == Kind::text && (level.key == "name" || level.key == "root")) {
            set_field(level.key == "name" ? "project" : "root", m_levels[m_levels.size() - 2].key, std::move(text));
        }
        return true;
    }

    void set_field(const std::string& name, const std::string& key, std::string text) {
        auto& field = m_fields[name];
        if (key >= field.key) { field = {key, std::move(text)}; }
    }

    /// A collection's key is the port of its rows, or else their project's name; of applications it is the name where they say a port themselves.
    [[nodiscard]] Record record_of_key(bool says_port) const {
        for (auto level = m_levels.rbegin(); level != m_levels.rend(); ++level) {
            if (level->part != Part::keyed) { continue; }
            const bool is_port = is_digits(level->key) || (is_applications() && !says_port);
            return {{is_port ? "port" : key_is(), level->key}};
        }
        return {};
    }

    bool add_scalar_row(Kind kind, std::string text) {
        if (m_levels.back().part == Part::list || kind == Kind::other) {
            refuse_row();
            return true;
        }
        auto record = record_of_key(kind == Kind::number || is_digits(text));
        record.emplace(record.contains("port") ? key_is() : "port", std::move(text));
        add_record(m_inside->rows, m_inside->last_row, record);
        return true;
    }

    void end_row() {
        const auto keys = std::move(m_levels.back().keys);
        if (is_applications() && m_own_name && !keys.contains("project")) { set_field("project", "name", std::move(*m_own_name)); }
        Record record;
        for (auto& [name, field] : m_fields) { record.emplace(name, std::move(field.text)); }
        record.merge(record_of_key(std::any_of(keys.begin(), keys.end(), is_port_title)));
        add_record(m_inside->rows, m_inside->last_row, record);
    }

    std::vector<Found> m_found;   ///< each that there may be
    Found* m_inside = nullptr;    ///< the collection that is read
    std::vector<Level> m_levels;  ///< what has been begun and not ended, from the outside
    std::map<std::string, Field> m_fields;  ///< of the row that is read
    std::optional<std::string> m_own_name;  ///< what it has under "name"
    std::size_t m_rows = 0;
    std::size_t m_kept = 0;
    std::size_t m_kept_bytes = 0;
};

Result<RowsRead> read_json(std::string_view text, std::optional<ImportFormat> wanted) {
    JsonRows reader;
    if (!Json::sax_parse(text.begin(), text.end(), &reader)) { return Error{ErrorCode::invalid_request, reader.problem}; }
    return reader.rows(wanted);
}

std::string_view without_mark(std::string_view text) {
    constexpr std::string_view k_mark = "\xEF\xBB\xBF";
    if (text.starts_with(k_mark)) { text.remove_prefix(k_mark.size()); }
    return text;
}

/// What a text without JSON looks like; none when it looks like nothing that is known.
std::optional<ImportFormat> table_format(std::string_view text) {
    const auto start = trimmed(text);
    if (has_port_title(first_row(text, split_markdown))) { return ImportFormat::markdown; }
    if (has_port_title(first_row(start.substr(0, start.find('\n')), as_csv(start)))) { return ImportFormat::csv; }
    if (const auto env = read_env(text); !env || !env->rows.empty() || !env->refused.empty()) { return ImportFormat::env; }
    return std::nullopt;
}

}  // namespace

std::optional<Time> lenient_time(std::string_view text) {
    const auto digits = [&](std::size_t count) -> std::optional<int> {
        if (text.size() < count) { return std::nullopt; }
        const auto value = whole_number(text.substr(0, count), 9999);
        text.remove_prefix(count);
        return value ? std::optional(static_cast<int>(*value)) : std::nullopt;
    };
    const auto skip = [&](std::string_view any) {
        if (text.empty() || any.find(text.front()) == std::string_view::npos) { return false; }
        text.remove_prefix(1);
        return true;
    };
    const auto year = digits(4);
    if (!year || !skip("-")) { return std::nullopt; }
    const auto month = digits(2);
    if (!month || !skip("-")) { return std::nullopt; }
    const auto day = digits(2);
    if (!day) { return std::nullopt; }
    const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)), std::chrono::day(static_cast<unsigned>(*day))};
    if (!date.ok()) { return std::nullopt; }
    Time time{std::chrono::sys_days(date)};
    if (text.empty()) { return time; }
    if (!skip("T t")) { return std::nullopt; }
    const auto hour = digits(2);
    if (!hour || *hour > 23 || !skip(":")) { return std::nullopt; }
    const auto minute = digits(2);
    if (!minute || *minute > 59) { return std::nullopt; }
    int second = 0;
    if (skip(":")) {
        const auto given = digits(2);
        if (!given || *given > 60) { return std::nullopt; }
        second = *given;
    }
    time += std::chrono::hours(*hour) + std::chrono::minutes(*minute) + std::chrono::seconds(second);
    if (skip(".")) {
        for (int unit = 100; !text.empty() && text.front() >= '0' && text.front() <= '9'; unit /= 10) {
            time += std::chrono::milliseconds(unit * (text.front() - '0'));
            text.remove_prefix(1);
        }
    }
    if (text.empty() || text == "Z" || text == "z") { return time; }
    const int sign = text.front() == '-' ? 1 : -1;
    if (!skip("+-")) { return std::nullopt; }
    const auto zone_hour = digits(2);
    if (!zone_hour) { return std::nullopt; }
    skip(":");
    const auto zone_minute = text.empty() ? std::optional(0) : digits(2);
    if (!zone_minute || !text.empty()) { return std::nullopt; }
    return time + sign * (std::chrono::hours(*zone_hour) + std::chrono::minutes(*zone_minute));
}

Result<RowsRead> read_rows(std::string_view text, std::optional<ImportFormat> format) {
    text = without_mark(text);
    if (!format) {
        if (trimmed(text).starts_with('{')) { return read_json(text, std::nullopt); }
        format = table_format(text);
        if (!format && begins_with_values(text)) { return Error{ErrorCode::invalid_request, k_no_titles}; }
    }
    if (!format) { return Error{ErrorCode::invalid_request, "it looks like no format that can be read (--format says which it is)"}; }
    switch (*format) {
        case ImportFormat::csv: {
            const auto start = text.find_first_not_of("\r\n");
            return read_table(text, as_csv(start == std::string_view::npos ? text : text.substr(start)), *format);
        }
        case ImportFormat::markdown: return read_table(text, split_markdown, *format);
        case ImportFormat::env: return read_env(text);
        case ImportFormat::json:
        case ImportFormat::worktrees:
        case ImportFormat::applications:
        case ImportFormat::ports: break;
    }
    return read_json(text, format);
}

}  // namespace portwrap
