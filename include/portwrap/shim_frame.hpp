// The shim's messages as docs/protocol.md lays them down: writers of its fixed requests (numbers only) and a strict,
// bounded reader of the agent's replies. Freestanding: no libc, no heap, no recursion, safe in a signal handler; the shim
// and the tests use the same code. Every function is total: bad input gives a refusal, never a read beyond the end.
#pragma once

#include <cstddef>
#include <cstdint>

namespace portwrap::shim_frame {

inline constexpr std::size_t k_max_request = 512;  ///< bytes that the longest request fits into
inline constexpr std::size_t k_max_reply = 4096;   ///< bytes of one reply, newline included
inline constexpr unsigned k_max_depth = 32;        ///< nesting of a value that is skipped

/// What PORTWRAP_SESSION says: pid and start time (clock ticks) of the outermost portwrap; zeros when unset.
struct Session {
    std::uint64_t pid = 0;
    std::uint64_t start_ticks = 0;
};

struct BindRequest {
    std::uint32_t port = 0;
    std::uint32_t family = 0;
    std::uint32_t scope = 0;
    std::uint32_t protocol = 0;
    std::uint32_t reuseport = 0;
    std::uint64_t cookie = 0;
    std::uint64_t netns = 0;
    Session session;
};

struct FailedRequest {
    std::uint32_t id = 0;
    std::uint64_t lease = 0;
    std::uint32_t port = 0;
    std::uint32_t error = 0;
};

struct BoundNotification {
    std::uint64_t lease = 0;
    std::uint32_t port = 0;
    std::uint64_t cookie = 0;
};

struct ListeningRequest {
    std::uint32_t port = 0;
    std::uint32_t error = 0;
    std::uint64_t cookie = 0;
    std::uint32_t family = 0;
    std::uint32_t scope = 0;
    Session session;
    std::uint64_t stderr_device = 0;
    std::uint64_t stderr_inode = 0;
    std::uint32_t protocol = 6;
};

struct RefusedRequest {
    std::uint32_t port = 0;
    Session session;
    std::uint64_t stderr_device = 0;
    std::uint64_t stderr_inode = 0;
};

/// Appends to a buffer of the caller's; size() is 0 if anything did not fit.
class Writer {
public:
    Writer(char* out, std::size_t capacity) noexcept : m_out(out), m_capacity(capacity) {}

    Writer& text(const char* literal) noexcept {
        for (; *literal != '\0'; ++literal) {
            put(*literal);
        }
        return *this;
    }

    Writer& number(std::uint64_t value) noexcept {
        char digits[20];  // 2^64 - 1 has 20 of them
        unsigned count = 0;
        do {
            digits[count++] = static_cast<char>('0' + value % 10);
            value /= 10;
        } while (value != 0);
        while (count > 0) {
            put(digits[--count]);
        }
        return *this;
    }

    Writer& pair(std::uint64_t first, std::uint64_t second) noexcept {
        return text("[").number(first).text(",").number(second).text("]");
    }

    [[nodiscard]] std::size_t size() const noexcept { return m_full ? 0 : m_size; }

private:
    void put(char c) noexcept {
        if (m_size >= m_capacity) {
            m_full = true;
            return;
        }
        m_out[m_size++] = c;
    }

    char* m_out;
    std::size_t m_capacity;
    std::size_t m_size = 0;
    bool m_full = false;
};

/// The writers return the length of the line, newline included, or 0 if it does not fit into `capacity`.
[[nodiscard]] inline std::size_t write_bind(char* out, std::size_t capacity, const BindRequest& request) noexcept {
    Writer writer(out, capacity);
    writer.text(R"({"jsonrpc":"2.0","id":1,"method":"shim.bind","params":{"port":)").number(request.port);
    writer.text(R"(,"family":)").number(request.family).text(R"(,"scope":)").number(request.scope);
    writer.text(R"(,"protocol":)").number(request.protocol).text(R"(,"reuseport":)").number(request.reuseport);
    writer.text(R"(,"cookie":)").number(request.cookie).text(R"(,"netns":)").number(request.netns);
    writer.text(R"(,"session":)").pair(request.session.pid, request.session.start_ticks).text("}}\n");
    return writer.size();
}

[[nodiscard]] inline std::size_t write_failed(char* out, std::size_t capacity, const FailedRequest& request) noexcept {
    Writer writer(out, capacity);
    writer.text(R"({"jsonrpc":"2.0","id":)").number(request.id).text(R"(,"method":"shim.failed","params":{"lease":)");
    writer.number(request.lease).text(R"(,"port":)").number(request.port);
    writer.text(R"(,"errno":)").number(request.error).text("}}\n");
    return writer.size();
}

[[nodiscard]] inline std::size_t write_bound(char* out, std::size_t capacity, const BoundNotification& bound) noexcept {
    Writer writer(out, capacity);
    writer.text(R"({"jsonrpc":"2.0","method":"shim.bound","params":{"lease":)").number(bound.lease);
    writer.text(R"(,"port":)").number(bound.port).text(R"(,"cookie":)").number(bound.cookie).text("}}\n");
    return writer.size();
}

[[nodiscard]] inline std::size_t write_listening(char* out, std::size_t capacity,
                                                 const ListeningRequest& request) noexcept {
    Writer writer(out, capacity);
    writer.text(R"({"jsonrpc":"2.0","id":1,"method":"shim.listening","params":{"port":)").number(request.port);
    writer.text(R"(,"errno":)").number(request.error).text(R"(,"cookie":)").number(request.cookie);
    writer.text(R"(,"family":)").number(request.family).text(R"(,"scope":)").number(request.scope);
    writer.text(R"(,"session":)").pair(request.session.pid, request.session.start_ticks);
    writer.text(R"(,"stderr":)").pair(request.stderr_device, request.stderr_inode);
    if (request.protocol != 6) {
        writer.text(R"(,"protocol":)").number(request.protocol);
    }
    writer.text("}}\n");
    return writer.size();
}

[[nodiscard]] inline std::size_t write_table(char* out, std::size_t capacity, const Session& session) noexcept {
    Writer writer(out, capacity);
    writer.text(R"({"jsonrpc":"2.0","id":1,"method":"shim.table","params":{"session":)");
    writer.pair(session.pid, session.start_ticks).text("}}\n");
    return writer.size();
}

[[nodiscard]] inline std::size_t write_refused(char* out, std::size_t capacity, const RefusedRequest& request) noexcept {
    Writer writer(out, capacity);
    writer.text(R"({"jsonrpc":"2.0","id":1,"method":"shim.refused","params":{"port":)").number(request.port);
    writer.text(R"(,"session":)").pair(request.session.pid, request.session.start_ticks);
    writer.text(R"(,"stderr":)").pair(request.stderr_device, request.stderr_inode).text("}}\n");
    return writer.size();
}

/// Digits only, all of them, no leading zero, at most `limit`.
[[nodiscard]] inline bool read_decimal(const char* text, std::size_t size, std::uint64_t limit,
                                       std::uint64_t& value) noexcept {
    if (size == 0 || (size > 1 && text[0] == '0')) {
        return false;
    }
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < size; ++i) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        const auto digit = static_cast<std::uint64_t>(text[i] - '0');
        if (digit > limit || sum > (limit - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    value = sum;
    return true;
}

/// The value of PORTWRAP_SESSION, "PID.STARTTICKS"; anything else leaves `session` as it was.
inline bool read_session(const char* text, std::size_t size, Session& session) noexcept {
    std::size_t dot = 0;
    while (dot < size && text[dot] != '.') {
        ++dot;
    }
    Session parsed;
    if (dot == size || !read_decimal(text, dot, INT32_MAX, parsed.pid) ||
        !read_decimal(text + dot + 1, size - dot - 1, INT64_MAX, parsed.start_ticks)) {
        return false;
    }
    session = parsed;
    return true;
}

enum class ReplyKind : std::uint8_t {
    result,     ///< a result with nothing odd about it
    refusal,    ///< a well-formed error object: the agent is well and says no
    malformed,  ///< anything else
};

/// The members of `result` that the shim knows. `notice` points into the line and is still escaped: see copy_notice().
struct Reply {
    bool has_lease = false;
    bool has_port = false;
    bool has_notice = false;
    bool has_table = false;
    bool has_connect = false;
    bool has_requested = false;
    std::uint64_t lease = 0;
    std::uint32_t port = 0;
    std::uint64_t table = 0;      ///< name of a remap table, 0 for none
    std::uint64_t connect = 0;    ///< 1: connections are to be looked up in it
    std::uint64_t requested = 0;  ///< 1: getsockname is to say what was asked for
    const char* notice = nullptr;
    std::size_t notice_size = 0;
};

namespace detail {

struct View {
    const char* data = nullptr;
    std::size_t size = 0;

    [[nodiscard]] bool is(const char* literal) const noexcept {
        std::size_t i = 0;
        for (; i < size; ++i) {
            if (literal[i] == '\0' || literal[i] != data[i]) {
                return false;
            }
        }
        return literal[i] == '\0';
    }
};

enum class Member : std::uint8_t { found, end, bad };

/// A JSON reader (RFC 8259) that only moves forward; after a refusal its position means nothing.
class Cursor {
public:
    Cursor(const char* text, std::size_t size) noexcept : m_at(text), m_end(text + size) {}

    [[nodiscard]] bool take(char c) noexcept {
        skip_space();
        if (m_at == m_end || *m_at != c) {
            return false;
        }
        ++m_at;
        return true;
    }

    [[nodiscard]] bool at_end() noexcept {
        skip_space();
        return m_at == m_end;
    }

    /// The next member's key, with the colon behind it consumed. Keys with escapes are refused: they could hide a
    /// second spelling of a name that is looked for.
    [[nodiscard]] Member next_member(bool& first, View& key) noexcept {
        if (take('}')) {
            return Member::end;  // never after a comma: next to one a key is read below
        }
        if (!first && !take(',')) {
            return Member::bad;
        }
        first = false;
        bool escaped = false;
        if (!string(key, escaped) || escaped || !take(':')) {
            return Member::bad;
        }
        return Member::found;
    }

    [[nodiscard]] bool string(View& out, bool& escaped) noexcept {
        if (!take('"')) {
            return false;
        }
        const char* begin = m_at;
        escaped = false;
        while (m_at != m_end) {
            const auto c = static_cast<unsigned char>(*m_at);
            if (c == '"') {
                out = View{begin, static_cast<std::size_t>(m_at - begin)};
                ++m_at;
                return true;
            }
            if (c < 0x20) {
                return false;
            }
            ++m_at;
            if (c == '\\') {
                escaped = true;
                if (!escape()) {
                    return false;
                }
            }
        }
        return false;
    }

    [[nodiscard]] bool whole_number(std::uint64_t limit, std::uint64_t& value) noexcept {
        skip_space();
        const char* begin = m_at;
        return scalar() && read_decimal(begin, static_cast<std::size_t>(m_at - begin), limit, value);
    }

    /// Any value, of at most k_max_depth levels. One bit a level says whether it is an object.
    [[nodiscard]] bool skip_value() noexcept {
        std::uint32_t objects = 0;
        unsigned depth = 0;
        static_assert(k_max_depth <= 32, "one bit a level");
        for (;;) {
            bool complete = true;
            if (take('{')) {
                complete = take('}');
                if (!complete) {
                    if (depth == k_max_depth || !skip_key()) {
                        return false;
                    }
                    objects |= std::uint32_t{1} << depth;
                    ++depth;
                }
            } else if (take('[')) {
                complete = take(']');
                if (!complete) {
                    if (depth == k_max_depth) {
                        return false;
                    }
                    objects &= ~(std::uint32_t{1} << depth);
                    ++depth;
                }
            } else if (!scalar()) {
                return false;
            }
            while (complete) {
                if (depth == 0) {
                    return true;
                }
                const bool in_object = (objects >> (depth - 1) & 1U) != 0;
                if (take(',')) {
                    if (in_object && !skip_key()) {
                        return false;
                    }
                    complete = false;
                } else if (take(in_object ? '}' : ']')) {
                    --depth;
                } else {
                    return false;
                }
            }
        }
    }

private:
    void skip_space() noexcept {
        while (m_at != m_end && (*m_at == ' ' || *m_at == '\t' || *m_at == '\r' || *m_at == '\n')) {
            ++m_at;
        }
    }

    [[nodiscard]] bool skip_key() noexcept {
        View key;
        bool escaped = false;
        return string(key, escaped) && take(':');
    }

    [[nodiscard]] bool escape() noexcept {
        if (m_at == m_end) {
            return false;
        }
        const char c = *m_at++;
        if (c == 'u') {
            for (int i = 0; i < 4; ++i, ++m_at) {
                if (m_at == m_end || !is_hex(*m_at)) {
                    return false;
                }
            }
            return true;
        }
        return c == '"' || c == '\\' || c == '/' || c == 'b' || c == 'f' || c == 'n' || c == 'r' || c == 't';
    }

    [[nodiscard]] bool scalar() noexcept {
        skip_space();
        if (m_at == m_end) {
            return false;
        }
        switch (*m_at) {
            case '"': {
                View ignored;
                bool escaped = false;
                return string(ignored, escaped);
            }
            case 't': return word("true");
            case 'f': return word("false");
            case 'n': return word("null");
            default: return number();
        }
    }

    [[nodiscard]] bool word(const char* literal) noexcept {
        for (; *literal != '\0'; ++literal, ++m_at) {
            if (m_at == m_end || *m_at != *literal) {
                return false;
            }
        }
        return true;
    }

    [[nodiscard]] bool digits() noexcept {
        const char* begin = m_at;
        while (m_at != m_end && *m_at >= '0' && *m_at <= '9') {
            ++m_at;
        }
        return m_at != begin;
    }

    [[nodiscard]] bool number() noexcept {
        if (*m_at == '-') {
            ++m_at;
        }
        const char* begin = m_at;
        if (!digits() || (*begin == '0' && m_at - begin > 1)) {
            return false;
        }
        if (m_at != m_end && *m_at == '.') {
            ++m_at;
            if (!digits()) {
                return false;
            }
        }
        if (m_at != m_end && (*m_at == 'e' || *m_at == 'E')) {
            ++m_at;
            if (m_at != m_end && (*m_at == '+' || *m_at == '-')) {
                ++m_at;
            }
            return digits();
        }
        return true;
    }

    [[nodiscard]] static bool is_hex(char c) noexcept {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    }

    const char* m_at;
    const char* m_end;
};

/// What may be shown on a terminal: no control characters (C0, DEL, C1 as UTF-8), no escapes but \" and \\.
[[nodiscard]] inline bool is_notice(const View& text) noexcept {
    for (std::size_t i = 0; i < text.size; ++i) {
        const auto c = static_cast<unsigned char>(text.data[i]);
        const auto next = static_cast<unsigned char>(i + 1 < text.size ? text.data[i + 1] : 0);
        if (c < 0x20 || c == 0x7f || (c == 0xc2 && next >= 0x80 && next < 0xa0)) {
            return false;
        }
        if (c == '\\') {
            if (next != '"' && next != '\\') {
                return false;
            }
            ++i;
        }
    }
    return true;
}

[[nodiscard]] inline bool read_result(Cursor& cursor, Reply& reply) noexcept {
    if (!cursor.take('{')) {
        return false;
    }
    bool first = true;
    for (;;) {
        View key;
        switch (cursor.next_member(first, key)) {
            case Member::end: return true;
            case Member::bad: return false;
            case Member::found: break;
        }
        if (key.is("lease")) {
            if (reply.has_lease || !cursor.whole_number(UINT64_MAX, reply.lease)) {
                return false;
            }
            reply.has_lease = true;
        } else if (key.is("port")) {
            std::uint64_t port = 0;
            if (reply.has_port || !cursor.whole_number(UINT16_MAX, port)) {
                return false;
            }
            reply.port = static_cast<std::uint32_t>(port);
            reply.has_port = true;
        } else if (key.is("table")) {
            if (reply.has_table || !cursor.whole_number(UINT64_MAX, reply.table)) {
                return false;
            }
            reply.has_table = true;
        } else if (key.is("connect")) {
            if (reply.has_connect || !cursor.whole_number(1, reply.connect)) {
                return false;
            }
            reply.has_connect = true;
        } else if (key.is("requested")) {
            if (reply.has_requested || !cursor.whole_number(1, reply.requested)) {
                return false;
            }
            reply.has_requested = true;
        } else if (key.is("notice")) {
            View notice;
            bool escaped = false;
            if (reply.has_notice || !cursor.string(notice, escaped) || !is_notice(notice)) {
                return false;
            }
            reply.notice = notice.data;
            reply.notice_size = notice.size;
            reply.has_notice = true;
        } else if (!cursor.skip_value()) {
            return false;
        }
    }
}

}  // namespace detail

/// Reads one whole line, newline included, that must answer the request `id`. Members may come in any order, unknown
/// ones are skipped, known ones must not come twice. `reply` is to be used only after ReplyKind::result.
[[nodiscard]] inline ReplyKind read_reply(const char* line, std::size_t size, std::uint32_t id, Reply& reply) noexcept {
    reply = Reply{};
    if (size == 0 || size > k_max_reply || line[size - 1] != '\n') {
        return ReplyKind::malformed;
    }
    for (std::size_t i = 0; i + 1 < size; ++i) {
        if (line[i] == '\n') {
            return ReplyKind::malformed;  // more than was asked for
        }
    }
    detail::Cursor cursor(line, size - 1);
    if (!cursor.take('{')) {
        return ReplyKind::malformed;
    }
    bool first = true;
    bool has_version = false;
    bool has_id = false;
    bool has_result = false;
    bool has_error = false;
    for (;;) {
        detail::View key;
        const auto member = cursor.next_member(first, key);
        if (member == detail::Member::bad) {
            return ReplyKind::malformed;
        }
        if (member == detail::Member::end) {
            break;
        }
        bool fine = false;
        if (key.is("jsonrpc")) {
            detail::View version;
            bool escaped = false;
            fine = !has_version && cursor.string(version, escaped) && version.is("2.0");
            has_version = true;
        } else if (key.is("id")) {
            std::uint64_t answered = 0;
            fine = !has_id && cursor.whole_number(UINT32_MAX, answered) && answered == id;
            has_id = true;
        } else if (key.is("result")) {
            fine = !has_result && detail::read_result(cursor, reply);
            has_result = true;
        } else if (key.is("error")) {
            fine = !has_error && cursor.skip_value();
            has_error = true;
        } else {
            fine = cursor.skip_value();
        }
        if (!fine) {
            return ReplyKind::malformed;
        }
    }
    if (!cursor.at_end() || !has_version || !has_id || has_result == has_error) {
        return ReplyKind::malformed;
    }
    return has_result ? ReplyKind::result : ReplyKind::refusal;
}

/// The answer to shim.bind and shim.failed. Port 0 is an answer only where `asked` is 0 and nothing is leased.
[[nodiscard]] inline ReplyKind read_port_reply(const char* line, std::size_t size, std::uint32_t id, std::uint32_t asked,
                                               Reply& reply) noexcept {
    const auto kind = read_reply(line, size, id, reply);
    if (kind == ReplyKind::result &&
        (!reply.has_lease || !reply.has_port || (reply.port == 0 && (asked != 0 || reply.lease != 0)))) {
        return ReplyKind::malformed;
    }
    return kind;
}

/// The answer to shim.table.
[[nodiscard]] inline ReplyKind read_table_reply(const char* line, std::size_t size, std::uint32_t id, Reply& reply) noexcept {
    const auto kind = read_reply(line, size, id, reply);
    return kind == ReplyKind::result && (!reply.has_table || !reply.has_connect) ? ReplyKind::malformed : kind;
}

/// The answer to shim.listening and shim.refused.
[[nodiscard]] inline ReplyKind read_notice_reply(const char* line, std::size_t size, std::uint32_t id,
                                                 Reply& reply) noexcept {
    const auto kind = read_reply(line, size, id, reply);
    return kind == ReplyKind::result && !reply.has_notice ? ReplyKind::malformed : kind;
}

/// Writes the notice without its escapes, at most reply.notice_size bytes, and returns how many. `out` may be the
/// memory of the line itself, at or before the notice.
inline std::size_t copy_notice(const Reply& reply, char* out) noexcept {
    std::size_t size = 0;
    for (std::size_t i = 0; i < reply.notice_size; ++i) {
        if (reply.notice[i] == '\\' && i + 1 < reply.notice_size) {
            ++i;
        }
        out[size++] = reply.notice[i];
    }
    return size;
}

}  // namespace portwrap::shim_frame
