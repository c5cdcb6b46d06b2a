// JSON is written by hand, straight into one string, because every request of a program waits for it; it is read where it
// stands (json_text.hpp) and checked field by field.
#include "storage/event_codec.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <type_traits>
#include <utility>

#include "storage/crc32.hpp"
#include "storage/json_text.hpp"

namespace portwrap {
namespace {

/// Sequence numbers and ids stay where every JSON reader is exact, and far from overflow.
constexpr std::uint64_t k_largest_number = std::uint64_t{1} << 53U;
constexpr int k_newest_line_version = 1;
/// `"crc":"01234567"}`
constexpr std::string_view k_crc_name = "\"crc\":\"";
constexpr std::size_t k_crc_size = k_crc_name.size() + 8 + 2;

constexpr std::string_view k_hex = "0123456789abcdef";

/// Decimal digits with leading zeros, as many as there is room for; returns where the next character goes.
char* put_digits(char* at, unsigned value, int width) {
    for (int i = width - 1; i >= 0; --i) {
        at[i] = static_cast<char>('0' + value % 10);
        value /= 10;
    }
    return at + width;
}

void append_time(std::string& out, Time time) {
    using namespace std::chrono;
    constexpr Time k_first = sys_days{year{0} / January / 1};
    constexpr Time k_last = sys_days{year{9999} / December / 31} + days{1} - milliseconds{1};
    time = std::clamp(time, k_first, k_last);
    const auto day = floor<days>(time);
    const year_month_day date{day};
    const hh_mm_ss clock{time - day};
    std::array<char, 24> text;  // 2026-11-21T09:10:00.123Z
    char* at = put_digits(text.data(), static_cast<unsigned>(static_cast<int>(date.year())), 4);
    *at++ = '-';
    at = put_digits(at, static_cast<unsigned>(date.month()), 2);
    *at++ = '-';
    at = put_digits(at, static_cast<unsigned>(date.day()), 2);
    *at++ = 'T';
    at = put_digits(at, static_cast<unsigned>(clock.hours().count()), 2);
    *at++ = ':';
    at = put_digits(at, static_cast<unsigned>(clock.minutes().count()), 2);
    *at++ = ':';
    at = put_digits(at, static_cast<unsigned>(clock.seconds().count()), 2);
    *at++ = '.';
    at = put_digits(at, static_cast<unsigned>(clock.subseconds().count()), 3);
    *at++ = 'Z';
    out.append(text.data(), at);
}

// ---- writing: one overload of `put` for each kind of value

template <typename T>
    requires std::is_integral_v<T>
void put(std::string& out, T value) {
    if constexpr (std::is_same_v<T, bool>) {
        out += value ? "true" : "false";
    } else {
        std::array<char, 24> digits{};
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
        out.append(digits.data(), end);
    }
}
template <typename E>
    requires std::is_enum_v<E>
void put(std::string& out, E value) {
    out += '"';
    out += word(value);
    out += '"';
}
void put(std::string& out, std::string_view value) { append_json_string(out, value); }
void put(std::string& out, Time value) {
    out += '"';
    append_time(out, value);
    out += '"';
}

/// A member's name as it stands behind another member: `,"name":`.
template <std::size_t Size>
struct MemberName {
    consteval MemberName(const char (&name)[Size]) {  // NOLINT(google-explicit-constructor): a literal is meant
        text[0] = ',';
        text[1] = '"';
        std::copy_n(name, Size - 1, text.begin() + 2);
        text[Size + 1] = '"';
        text[Size + 2] = ':';
    }
    std::array<char, Size + 3> text{};
};

/// Writes an object's members in order: `Object(out).member<"a">(1).member<"b">("x").end()`.
class Object {
public:
    explicit Object(std::string& out) : m_out(out) { m_out += '{'; }
    template <MemberName Name, typename T>
    Object& member(const T& value);
    void end() { m_out += '}'; }

private:
    std::string& m_out;
    bool m_first = true;
};

void put(std::string& out, const ProcessId& value) {
    Object(out).member<"pid">(value.pid).member<"start_ticks">(value.start_ticks).end();
}
void put(std::string& out, const Holder& value) {
    Object(out)
        .member<"pid">(value.process.pid)
        .member<"start_ticks">(value.process.start_ticks)
        .member<"command">(value.command)
        .member<"cwd">(value.cwd)
        .member<"started_at">(value.started_at)
        .end();
}
void put(std::string& out, const Socket& value) {
    Object(out)
        .member<"cookie">(value.cookie)
        .member<"bound">(value.bound)
        .member<"listening">(value.listening)
        .end();
}
void put(std::string& out, const std::vector<Socket>& values) {
    out += '[';
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (i > 0) { out += ','; }
        put(out, values[i]);
    }
    out += ']';
}
template <typename T>
void put(std::string& out, const std::optional<T>& value) {
    if (value) {
        put(out, *value);
    } else {
        out += "null";
    }
}
void put(std::string& out, const Lease& value) { append_record(out, value); }
void put(std::string& out, const Project& value) { append_record(out, value); }
void put(std::string& out, const Session& value) { append_record(out, value); }

template <MemberName Name, typename T>
Object& Object::member(const T& value) {
    const std::size_t skipped = m_first ? 1 : 0;
    m_first = false;
    m_out.append(Name.text.data() + skipped, Name.text.size() - skipped);
    put(m_out, value);
    return *this;
}

// ---- reading: one overload of `get` for each kind of value; false when it is of another kind or out of range

bool get(const JsonValue& from, bool& value) {
    const auto read = from.boolean();
    if (!read) { return false; }
    value = *read;
    return true;
}
template <typename T>
    requires std::is_integral_v<T>
bool get(const JsonValue& from, T& value) {
    if (const auto number = from.unsigned_number()) {
        if (!std::in_range<T>(*number)) { return false; }
        value = static_cast<T>(*number);
        return true;
    }
    const auto number = std::is_signed_v<T> ? from.number() : std::nullopt;
    if (!number || !std::in_range<T>(*number)) { return false; }
    value = static_cast<T>(*number);
    return true;
}
template <typename E>
    requires std::is_enum_v<E>
bool get(const JsonValue& from, E& value) {
    const auto text = from.plain_text();
    const auto known = text ? from_word<E>(*text) : std::nullopt;
    if (!known) { return false; }
    value = *known;
    return true;
}
bool get(const JsonValue& from, std::string& value) {
    if (auto text = from.text()) {
        value = std::move(*text);
        return true;
    }
    const auto hex = JsonMembers(from).find("hex").plain_text();
    if (!hex || hex->size() % 2 != 0) { return false; }
    value.clear();
    for (std::size_t i = 0; i < hex->size(); i += 2) {
        const auto high = k_hex.find((*hex)[i]);
        const auto low = k_hex.find((*hex)[i + 1]);
        if (high == std::string_view::npos || low == std::string_view::npos) { return false; }
        value += static_cast<char>(high * 16 + low);
    }
    return true;
}
bool get(const JsonValue& from, Time& value) {
    const auto text = from.plain_text();
    if (!text) { return false; }
    const auto time = parse_time(*text);
    if (!time) { return false; }
    value = *time;
    return true;
}

/// Reads an object's members; remembers the first that is missing or wrong.
class Members {
public:
    explicit Members(const JsonValue& object) : m_members(object) {
        if (!object.is_object()) { m_wrong = "an object"; }
    }
    template <typename T>
    Members& member(const char* name, T& value) {
        if (!good()) { return *this; }
        const auto entry = m_members.find(name);
        return read(name, entry, value);
    }
    /// A member that older records lack: absent, `value` stays as it is.
    template <typename T>
    Members& later_member(const char* name, T& value) {
        if (!good()) { return *this; }
        const auto entry = m_members.find(name);
        return entry.exists() ? read(name, entry, value) : *this;
    }
    /// As `member`, and at least 1 and no larger than what is exact everywhere.
    Members& number(const char* name, std::uint64_t& value) {
        member(name, value);
        if (m_wrong.empty() && (value == 0 || value > k_largest_number)) { m_wrong = name; }
        return *this;
    }
    [[nodiscard]] bool good() const { return m_wrong.empty(); }
    [[nodiscard]] Error error() const {
        return Error{ErrorCode::storage_error, "missing or wrong in the record: " + m_wrong};
    }

private:
    template <typename T>
    Members& read(const char* name, const JsonValue& entry, T& value);

    JsonMembers m_members;
    std::string m_wrong;
};

bool get(const JsonValue& from, ProcessId& value) {
    return Members(from).member("pid", value.pid).member("start_ticks", value.start_ticks).good();
}
bool get(const JsonValue& from, Holder& value) {
    return Members(from)
        .member("pid", value.process.pid)
        .member("start_ticks", value.process.start_ticks)
        .member("command", value.command)
        .member("cwd", value.cwd)
        .member("started_at", value.started_at)
        .good();
}
bool get(const JsonValue& from, Socket& value) {
    return Members(from)
        .member("cookie", value.cookie)
        .member("bound", value.bound)
        .member("listening", value.listening)
        .good();
}
bool get(const JsonValue& from, std::vector<Socket>& values) {
    if (!from.is_array()) { return false; }
    values.clear();
    for (auto item = from.first(); item.exists(); item = item.next()) {
        if (!get(item, values.emplace_back())) { return false; }
    }
    return true;
}
template <typename T>
bool get(const JsonValue& from, std::optional<T>& value) {
    value.reset();
    return from.is_null() || get(from, value.emplace());
}

template <typename T>
Members& Members::read(const char* name, const JsonValue& entry, T& value) {
    if (!entry.exists() || !get(entry, value)) { m_wrong = name; }
    return *this;
}

Error bad_line(const std::string& what) { return Error{ErrorCode::storage_error, "a damaged line: " + what}; }

constexpr std::string_view k_forgotten = "forgotten";
constexpr std::string_view k_project_seen = "project_seen";
constexpr std::string_view k_project_forgotten = "project_forgotten";
constexpr std::string_view k_session_opened = "session_opened";
constexpr std::string_view k_session_closed = "session_closed";

Result<Change> change_from(const std::string& kind, const JsonValue& line) {
    const auto record = [&line](const char* name) { return JsonMembers(line).find(name); };
    if (kind == k_forgotten) {
        LeaseForgotten forgotten;
        Members members(line);
        members.number("lease_id", forgotten.id);
        if (!members.good()) { return members.error(); }
        return Change{forgotten};
    }
    if (kind == k_project_seen) {
        auto project = project_from_record(record("project"));
        if (!project) { return project.error(); }
        return Change{ProjectSeen{std::move(*project)}};
    }
    if (kind == k_project_forgotten) {
        ProjectForgotten gone;
        Members members(line);
        members.member("root", gone.root);
        if (!members.good()) { return members.error(); }
        return Change{std::move(gone)};
    }
    if (kind == k_session_opened) {
        auto session = session_from_record(record("session"));
        if (!session) { return session.error(); }
        return Change{SessionOpened{std::move(*session)}};
    }
    if (kind == k_session_closed) {
        SessionClosed closed;
        Members members(line);
        members.member("session", closed.id);
        if (!members.good()) { return members.error(); }
        return Change{closed};
    }
    const auto change = from_word<LeaseChange>(kind);
    if (!change) { return bad_line("an unknown event"); }
    auto lease = lease_from_record(record("lease"));
    if (!lease) { return lease.error(); }
    return Change{LeaseEvent{*change, std::move(*lease)}};
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
    // Nearly every string is plain to its end.
    const auto plain = plain_prefix(text);
    if (plain == text.size()) {
        out += '"';
        out += text;
        out += '"';
        return;
    }
    if (!is_utf8(text.substr(plain))) {
        out += "{\"hex\":\"";
        for (const char c : text) {
            const auto byte = static_cast<unsigned char>(c);
            out += k_hex[byte / 16];
            out += k_hex[byte % 16];
        }
        out += "\"}";
        return;
    }
    constexpr std::size_t k_longest = 6;  // \u001f
    const auto start = out.size();
    out.resize(start + k_longest * text.size() + 2);
    char* at = out.data() + start;
    *at++ = '"';
    at = std::copy_n(text.data(), plain, at);
    for (const char c : text.substr(plain)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte != 0x7F && c != '"' && c != '\\') {
            *at++ = c;
            continue;
        }
        *at++ = '\\';
        switch (c) {
            case '"':
            case '\\': *at++ = c; break;
            case '\n': *at++ = 'n'; break;
            case '\r': *at++ = 'r'; break;
            case '\t': *at++ = 't'; break;
            default:
                at = std::copy_n("u00", 3, at);
                *at++ = k_hex[byte / 16];
                *at++ = k_hex[byte % 16];
        }
    }
    *at++ = '"';
    out.resize(static_cast<std::size_t>(at - out.data()));
}

void append_record(std::string& out, const Lease& lease) {
    Object(out)
        .member<"id">(lease.id)
        .member<"port">(lease.port)
        .member<"requested_port">(lease.key.requested)
        .member<"protocol">(lease.key.protocol)
        .member<"service">(lease.key.service)
        .member<"instance">(lease.key.instance)
        .member<"root">(lease.key.root)
        .member<"state">(lease.state)
        .member<"origin">(lease.origin)
        .member<"health">(lease.health)
        .member<"range">(lease.range)
        .member<"environment">(lease.environment)
        .member<"kind">(lease.kind)
        .member<"shared">(lease.shared)
        .member<"claimed">(lease.claimed)
        .member<"claims">(lease.claims)
        .member<"listened">(lease.listened)
        .member<"kept_port">(lease.kept_port)
        .member<"unseen">(lease.unseen)
        .member<"announced">(lease.announced)
        .member<"beside">(lease.beside)
        .member<"session">(lease.session)
        .member<"last_session">(lease.last_session)
        .member<"holder">(lease.holder)
        .member<"sockets">(lease.sockets)
        .member<"boot_id">(lease.boot_id)
        .member<"description">(lease.description)
        .member<"hostname">(lease.hostname)
        .member<"allocated_by">(lease.allocated_by)
        .member<"started_by">(lease.started_by)
        .member<"allocated_at">(lease.allocated_at)
        .member<"last_active_at">(lease.last_active_at)
        .member<"released_at">(lease.released_at)
        .member<"expires_at">(lease.expires_at)
        .end();
}

void append_record(std::string& out, const Project& project) {
    Object(out)
        .member<"root">(project.root)
        .member<"name">(project.name)
        .member<"branch">(project.branch)
        .member<"worktree_of">(project.worktree_of)
        .member<"family">(project.family)
        .member<"root_commit">(project.root_commit)
        .member<"block_start">(project.block ? std::optional<Port>(project.block->start) : std::nullopt)
        .member<"block_end">(project.block ? std::optional<Port>(project.block->end) : std::nullopt)
        .member<"git_dir">(project.git_dir)
        .member<"git_id">(project.git_id)
        .end();
}

void append_record(std::string& out, const Session& session) {
    Object(out)
        .member<"id">(session.id)
        .member<"outermost">(session.outermost)
        .member<"root">(session.root)
        .member<"cwd">(session.cwd)
        .member<"command">(session.command)
        .member<"boot_id">(session.boot_id)
        .member<"port">(session.port)
        .member<"service">(session.service)
        .member<"type">(session.type)
        .member<"range">(session.range)
        .member<"kind">(session.kind)
        .member<"environment">(session.environment)
        .member<"quiet">(session.quiet)
        .member<"connect">(session.connect)
        .member<"stderr_device">(session.stderr_device)
        .member<"stderr_inode">(session.stderr_inode)
        .member<"started_at">(session.started_at)
        .end();
}

Result<Lease> lease_from_record(const JsonValue& record) {
    Lease lease;
    Members members(record);
    members.number("id", lease.id)
        .member("port", lease.port)
        .member("requested_port", lease.key.requested)
        .member("protocol", lease.key.protocol)
        .member("service", lease.key.service)
        .member("instance", lease.key.instance)
        .member("root", lease.key.root)
        .member("state", lease.state)
        .member("origin", lease.origin)
        .member("health", lease.health)
        .member("range", lease.range)
        .member("environment", lease.environment)
        .member("kind", lease.kind)
        .later_member("shared", lease.shared)
        .member("claimed", lease.claimed)
        .member("claims", lease.claims)
        .member("listened", lease.listened)
        .later_member("kept_port", lease.kept_port)
        .later_member("unseen", lease.unseen)
        .later_member("announced", lease.announced)
        .later_member("beside", lease.beside)
        .member("session", lease.session)
        .later_member("last_session", lease.last_session)
        .member("holder", lease.holder)
        .member("sockets", lease.sockets)
        .member("boot_id", lease.boot_id)
        .member("description", lease.description)
        .member("hostname", lease.hostname)
        .member("allocated_by", lease.allocated_by)
        .later_member("started_by", lease.started_by)
        .member("allocated_at", lease.allocated_at)
        .member("last_active_at", lease.last_active_at)
        .member("released_at", lease.released_at)
        .member("expires_at", lease.expires_at);
    if (!members.good()) { return members.error(); }
    return lease;
}

Result<Project> project_from_record(const JsonValue& record) {
    Project project;
    Members members(record);
    members.member("root", project.root)
        .member("name", project.name)
        .member("branch", project.branch)
        .member("worktree_of", project.worktree_of)
        .member("family", project.family)
        .member("root_commit", project.root_commit);
    std::optional<Port> start;
    std::optional<Port> end;
    members.member("block_start", start).member("block_end", end);
    members.later_member("git_dir", project.git_dir).later_member("git_id", project.git_id);
    if (!members.good()) { return members.error(); }
    if (start && end && *start <= *end) { project.block = PortInterval{*start, *end}; }
    return project;
}

Result<Session> session_from_record(const JsonValue& record) {
    Session session;
    Members members(record);
    members.member("id", session.id)
        .member("outermost", session.outermost)
        .member("root", session.root)
        .member("cwd", session.cwd)
        .member("command", session.command)
        .member("boot_id", session.boot_id)
        .member("port", session.port)
        .member("service", session.service)
        .member("type", session.type)
        .member("range", session.range)
        .member("kind", session.kind)
        .member("environment", session.environment)
        .member("quiet", session.quiet)
        .member("connect", session.connect)
        .member("stderr_device", session.stderr_device)
        .member("stderr_inode", session.stderr_inode)
        .member("started_at", session.started_at);
    if (!members.good()) { return members.error(); }
    return session;
}

std::string encode_event(const Event& event) {
    std::string line;
    line.reserve(1536);
    Object object(line);
    object.member<"seq">(event.seq).member<"at">(event.at);
    const auto kind = [&object](std::string_view text) -> Object& { return object.member<"event">(text); };
    if (const auto* leased = std::get_if<LeaseEvent>(&event.change)) {
        kind(word(leased->change)).member<"lease">(leased->lease);
    } else if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
        kind(k_forgotten).member<"lease_id">(forgotten->id);
    } else if (const auto* seen = std::get_if<ProjectSeen>(&event.change)) {
        kind(k_project_seen).member<"project">(seen->project);
    } else if (const auto* gone = std::get_if<ProjectForgotten>(&event.change)) {
        kind(k_project_forgotten).member<"root">(gone->root);
    } else if (const auto* opened = std::get_if<SessionOpened>(&event.change)) {
        kind(k_session_opened).member<"session">(opened->session);
    } else if (const auto* closed = std::get_if<SessionClosed>(&event.change)) {
        kind(k_session_closed).member<"session">(closed->id);
    }
    line += ',';
    const auto crc = crc32_text(line);
    line += k_crc_name;
    line += crc;
    line += "\"}";
    return line;
}

Result<Event> decode_event(std::string_view line) {
    constexpr int k_depth = 8;
    if (line.size() <= k_crc_size) { return bad_line("too short"); }
    const auto before = line.substr(0, line.size() - k_crc_size);
    const auto tail = line.substr(before.size());
    if (tail.substr(0, k_crc_name.size()) != k_crc_name || tail.substr(k_crc_name.size() + 8) != "\"}" ||
        tail.substr(k_crc_name.size(), 8) != crc32_text(before)) {
        return bad_line("the checksum is not right");
    }
    const auto parsed = JsonText::parse(line, k_depth);
    if (!parsed) { return parsed.error(); }
    const auto object = parsed->root();
    if (!object.is_object()) { return bad_line("not an object"); }
    if (const auto version = JsonMembers(object).find("v"); version.exists()) {
        int number = 0;
        if (!get(version, number)) { return bad_line("v"); }
        if (number > k_newest_line_version) {
            return Error{ErrorCode::version_mismatch,
                         "the journal was written by a newer portwrap (v " + std::to_string(number) + ")"};
        }
    }
    Event event;
    std::string kind;
    Members members(object);
    members.number("seq", event.seq).member("at", event.at).member("event", kind);
    if (!members.good()) { return members.error(); }
    auto change = change_from(kind, object);
    if (!change) { return change.error(); }
    event.change = std::move(*change);
    return event;
}

std::string format_time(Time time) {
    std::string text;
    append_time(text, time);
    return text;
}

Result<Time> parse_time(std::string_view text) {
    using namespace std::chrono;
    constexpr std::string_view k_shape = "dddd-dd-ddTdd:dd:dd.dddZ";
    const auto refused = [] { return Error{ErrorCode::storage_error, "not a time: want 2026-11-21T09:10:00.123Z"}; };
    if (text.size() != k_shape.size()) { return refused(); }
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (k_shape[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != k_shape[i]) { return refused(); }
    }
    const auto number = [text](std::size_t start, std::size_t size) {
        int value = 0;
        for (std::size_t i = start; i < start + size; ++i) { value = value * 10 + (text[i] - '0'); }
        return value;
    };
    const year_month_day date{year{number(0, 4)}, month{static_cast<unsigned>(number(5, 2))},
                              day{static_cast<unsigned>(number(8, 2))}};
    const int hour = number(11, 2);
    const int minute = number(14, 2);
    const int second = number(17, 2);
    if (!date.ok() || hour > 23 || minute > 59 || second > 59) { return refused(); }
    return Time{sys_days{date}} + hours{hour} + minutes{minute} + seconds{second} + milliseconds{number(20, 3)};
}

}  // namespace portwrap
