// See environment.hpp. Task runners pass LD_PRELOAD on and drop every other variable, so where PORTWRAP_RUNTIME is absent
// the ancestors' environments are looked at in /proc (as they were when those began), and the default directory is the
// last resort. Bounded: eight ancestors, 64 KiB each.
#include "environment.hpp"

#include "portwrap/remap_table.hpp"
#include "syscalls.hpp"

// Set before constructors run, under glibc and under musl.
extern "C" [[gnu::weak, gnu::visibility("default")]] char** __environ;

namespace portwrap::shim {

namespace {

constexpr int k_max_ancestors = 8;
constexpr std::size_t k_max_ancestor_environment = 64 * 1024;
constexpr std::size_t k_longest_path = k_socket_path_capacity - 1;

Environment g_environment;
bool g_ready = false;

struct Text {
    const char* data = nullptr;
    std::size_t size = 0;
};

std::size_t length(const char* text) noexcept {
    std::size_t size = 0;
    while (text[size] != '\0') {
        ++size;
    }
    return size;
}

/// The value if `entry` is NAME=VALUE.
bool has_name(Text entry, const char* name, Text& value) noexcept {
    std::size_t i = 0;
    for (; name[i] != '\0'; ++i) {
        if (i >= entry.size || entry.data[i] != name[i]) {
            return false;
        }
    }
    if (i >= entry.size || entry.data[i] != '=') {
        return false;
    }
    value = Text{entry.data + i + 1, entry.size - i - 1};
    return true;
}

/// Paths are assembled where there is room for the socket's; what does not fit counts as absent.
class Path {
public:
    void assign(Text text) noexcept {
        m_size = 0;
        m_fits = true;
        append(text);
    }
    void append(Text text) noexcept {
        for (std::size_t i = 0; i < text.size; ++i) {
            if (m_size == k_longest_path) {
                m_fits = false;
                return;
            }
            m_bytes[m_size++] = text.data[i];
        }
        m_bytes[m_size] = '\0';
    }
    void append(const char* text) noexcept { append(Text{text, length(text)}); }
    void append_number(std::uint64_t number) noexcept {
        char digits[20];
        shim_frame::Writer writer(digits, sizeof digits);
        writer.number(number);
        append(Text{digits, writer.size()});
    }
    [[nodiscard]] bool is_usable() const noexcept { return m_fits && m_size > 0 && m_bytes[0] == '/'; }
    [[nodiscard]] const char* c_str() const noexcept { return m_bytes; }
    [[nodiscard]] std::size_t size() const noexcept { return m_size; }

private:
    char m_bytes[k_socket_path_capacity] = {};
    std::size_t m_size = 0;
    bool m_fits = true;
};

struct Found {
    Path runtime;
    bool has_runtime = false;
    Path user_runtime;  ///< XDG_RUNTIME_DIR of this process
    bool has_user_runtime = false;
    shim_frame::Session session;
    std::uint64_t table = 0;
    bool connect = true;
    bool disabled = false;
    bool is_cluster_worker = false;
};

bool may_be_ours(char first) noexcept { return first == 'P' || first == 'X' || first == 'N'; }

void take_entry(Text entry, Found& found) noexcept {
    Text value;
    if (entry.size < 2 || !may_be_ours(entry.data[0])) {
        return;
    }
    if (has_name(entry, "PORTWRAP_RUNTIME", value)) {
        if (value.size > 0 && value.data[0] == '/') {
            found.runtime.assign(value);
            found.has_runtime = true;
        }
    } else if (has_name(entry, "PORTWRAP_SESSION", value)) {
        shim_frame::read_session(value.data, value.size, found.session);
    } else if (has_name(entry, "PORTWRAP_TABLE", value)) {
        if (!remap_table::read_name(value.data, value.size, found.table)) {
            found.table = 0;
        }
    } else if (has_name(entry, "PORTWRAP_CONNECT", value)) {
        found.connect = !(value.size == 3 && value.data[0] == 'o' && value.data[1] == 'f' && value.data[2] == 'f');
    } else if (has_name(entry, "NODE_UNIQUE_ID", value)) {
        found.is_cluster_worker = true;
    } else if (has_name(entry, "PORTWRAP_DISABLE", value)) {
        found.disabled = value.size == 1 && value.data[0] == '1';
    } else if (has_name(entry, "XDG_RUNTIME_DIR", value)) {
        if (value.size > 0 && value.data[0] == '/') {
            found.user_runtime.assign(value);
            found.has_user_runtime = true;
        }
    }
}

void read_own(Found& found) noexcept {
    if (&__environ == nullptr || __environ == nullptr) {
        return;
    }
    for (char** entry = __environ; *entry != nullptr; ++entry) {
        if (may_be_ours((*entry)[0])) {
            take_entry(Text{*entry, length(*entry)}, found);
        }
    }
}

int open_of_process(int pid, const char* file) noexcept {
    Path path;
    path.append("/proc/");
    path.append_number(static_cast<std::uint64_t>(pid));
    path.append(file);
    return above_standard(sys::open_for_reading(path.c_str()));
}

/// Entry by entry through a small buffer; an entry that is longer than the buffer is none of ours.
void read_of_process(int pid, Found& found) noexcept {
    const int fd = open_of_process(pid, "/environ");
    if (fd < 0) {
        return;
    }
    char buffer[4096];
    std::size_t kept = 0;
    std::size_t total = 0;
    bool too_long = false;
    while (total < k_max_ancestor_environment) {
        const long count = sys::read(fd, buffer + kept, sizeof buffer - kept);
        if (count <= 0) {
            break;
        }
        total += static_cast<std::size_t>(count);
        const std::size_t end = kept + static_cast<std::size_t>(count);
        std::size_t begin = 0;
        for (std::size_t i = kept; i < end; ++i) {
            if (buffer[i] != '\0') {  // NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult): the kernel wrote it
                continue;
            }
            if (!too_long) {
                take_entry(Text{buffer + begin, i - begin}, found);
            }
            too_long = false;
            begin = i + 1;
        }
        kept = end - begin;
        if (kept == sizeof buffer) {
            too_long = true;
            kept = 0;
        }
        for (std::size_t i = 0; i < kept; ++i) {
            buffer[i] = buffer[begin + i];
        }
    }
    sys::close(fd);
}

/// The fourth field of /proc/PID/stat; the second, the command, may itself contain spaces and brackets.
int parent_of(int pid) noexcept {
    const int fd = open_of_process(pid, "/stat");
    if (fd < 0) {
        return 0;
    }
    char text[256];
    const long count = sys::read(fd, text, sizeof text);
    sys::close(fd);
    const std::size_t size = count > 0 ? static_cast<std::size_t>(count) : 0;
    std::size_t at = size;
    while (at > 0 && text[at - 1] != ')') {
        --at;
    }
    at += 3;  // " S "
    std::size_t end = at;
    while (end < size && text[end] != ' ') {
        ++end;
    }
    std::uint64_t parent = 0;
    if (at >= size || !shim_frame::read_decimal(text + at, end - at, INT32_MAX, parent)) {
        return 0;
    }
    return static_cast<int>(parent);
}

void read_ancestors(Found& found) noexcept {
    int pid = sys::getppid();
    for (int i = 0; i < k_max_ancestors && pid > 0; ++i) {
        Found theirs;
        read_of_process(pid, theirs);
        if (theirs.has_runtime) {
            found.runtime = theirs.runtime;
            found.has_runtime = true;
            found.session = theirs.session;
            found.table = theirs.table;
            found.connect = theirs.connect;
            found.disabled = theirs.disabled;
            return;
        }
        pid = parent_of(pid);
    }
}

/// The rule of paths.hpp.
void default_runtime(Found& found) noexcept {
    const std::uint32_t uid = sys::geteuid();
    struct stat status {};
    if (found.has_user_runtime && !(sys::stat(found.user_runtime.c_str(), status) == 0 && status.st_uid != uid)) {
        found.runtime = found.user_runtime;
        found.runtime.append("/portwrap");
        return;
    }
    found.runtime.append("/run/user/");
    found.runtime.append_number(uid);
    if (sys::lstat(found.runtime.c_str(), status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == uid &&
        (status.st_mode & 0777) == 0700) {
        found.runtime.append("/portwrap");
        return;
    }
    found.runtime = Path{};
    found.runtime.append("/tmp/portwrap-");
    found.runtime.append_number(uid);
}

}  // namespace

void read_environment() noexcept {
    Found found;
    read_own(found);
    if (found.disabled) {
        return;
    }
    if (!found.has_runtime) {
        read_ancestors(found);
        if (found.disabled) {
            return;
        }
        if (!found.has_runtime) {
            default_runtime(found);
        }
    }
    found.runtime.append("/agent.sock");
    if (!found.runtime.is_usable()) {
        return;
    }
    const char* path = found.runtime.c_str();
    for (std::size_t i = 0; i <= found.runtime.size(); ++i) {
        g_environment.socket_path[i] = path[i];
    }
    g_environment.socket_path_size = found.runtime.size();
    g_environment.session = found.session;
    g_environment.table = found.table;
    g_environment.connect = found.connect;
    g_environment.is_cluster_worker = found.is_cluster_worker;
    __atomic_store_n(&g_ready, true, __ATOMIC_RELEASE);
}

std::uintptr_t first_environment() noexcept {
    return &__environ != nullptr ? reinterpret_cast<std::uintptr_t>(__environ) : 0;
}

const Environment* environment() noexcept {
    return __atomic_load_n(&g_ready, __ATOMIC_ACQUIRE) ? &g_environment : nullptr;
}

}  // namespace portwrap::shim
