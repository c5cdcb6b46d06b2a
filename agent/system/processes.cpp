// Readers of /proc. Every file is read once and parsed from memory; a process may disappear between any two of them,
// which is then simply "unknown".
#include "system/processes.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "portwrap/paths.hpp"
#include "portwrap/protocol.hpp"
#include "system/bounded_read.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

constexpr std::size_t k_argument_bytes = 4096;
constexpr std::size_t k_environment_bytes = 256U << 10U;
constexpr std::size_t k_map_bytes = 8U << 20U;
/// What the kernel writes behind the path of a file or directory that was removed (proc(5)).
constexpr std::string_view k_deleted = " (deleted)";
// An upper bound for one walk through /proc: a process with a million descriptors must not hold a pool thread.
constexpr std::size_t k_max_descriptors = 400'000;

std::string proc_path(pid_t pid, const char* file) { return "/proc/" + std::to_string(pid) + "/" + file; }

template <typename T>
std::optional<T> number(std::string_view text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) { return std::nullopt; }
    return value;
}

/// By hand: a request of a program reads a hundred of them, and a search for one of a set of characters takes five times as long.
std::string_view next_field(std::string_view& text) {
    const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\n'; };
    std::size_t begin = 0;
    while (begin < text.size() && is_blank(text[begin])) { ++begin; }
    std::size_t end = begin;
    while (end < text.size() && !is_blank(text[end])) { ++end; }
    const auto field = text.substr(begin, end - begin);
    text.remove_prefix(end);
    return field;
}

/// Seconds since the epoch at which the machine started, as the kernel rounds them; 0 when unknown.
std::int64_t boot_time() {
    static const std::int64_t k_seconds = [] {
        // "btime" comes after the line "intr", which is long on large machines.
        const auto text = read_system_file("/proc/stat", 4U << 20U).value_or("");
        const std::size_t at = text.find("\nbtime ");
        if (at == std::string::npos) { return std::int64_t{0}; }
        std::string_view rest = std::string_view(text).substr(at + 7);
        return number<std::int64_t>(next_field(rest)).value_or(0);
    }();
    return k_seconds;
}

Time start_time(std::uint64_t ticks) {
    static const long k_ticks_per_second = std::max(1L, ::sysconf(_SC_CLK_TCK));
    const auto per_second = static_cast<std::uint64_t>(k_ticks_per_second);
    const auto milliseconds = ticks / per_second * 1000 + ticks % per_second * 1000 / per_second;
    return Time(std::chrono::seconds(boot_time()) + std::chrono::milliseconds(static_cast<std::int64_t>(milliseconds)));
}

std::string read_link(const std::string& path) {
    std::string target(PATH_MAX, '\0');
    const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
    if (length <= 0) { return {}; }
    target.resize(static_cast<std::size_t>(length));
    return target;
}

/// "(name)" of /proc/PID/stat without the parentheses.
std::string read_name(pid_t pid) {
    const auto text = read_system_file(proc_path(pid, "stat"), 4096);
    if (!text) { return {}; }
    const std::size_t open = text->find('(');
    const std::size_t close = text->rfind(')');
    if (open == std::string::npos || close == std::string::npos || close < open) { return {}; }
    return text->substr(open + 1, close - open - 1);
}

struct CloseDirectory {
    void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

std::vector<pid_t> all_processes() {
    std::vector<pid_t> pids;
    const Directory directory(::opendir("/proc"));
    if (!directory) { return pids; }
    while (const dirent* entry = ::readdir(directory.get())) {
        if (const auto pid = number<pid_t>(entry->d_name)) { pids.push_back(*pid); }
    }
    std::sort(pids.begin(), pids.end());
    return pids;
}

/// Of "socket:[INODE]"; 0 for anything else.
ino_t socket_inode(std::string_view link) {
    constexpr std::string_view k_prefix = "socket:[";
    if (!link.starts_with(k_prefix) || !link.ends_with(']')) { return 0; }
    link.remove_prefix(k_prefix.size());
    link.remove_suffix(1);
    return number<ino_t>(link).value_or(0);
}

/// Moves what `pid` has from `wanted` to `found`.
void look_into(pid_t pid, std::set<ino_t>& wanted, std::map<ino_t, ProcessId>& found, std::size_t& budget) {
    const Directory directory(::opendir(proc_path(pid, "fd").c_str()));
    if (!directory) { return; }
    std::vector<ino_t> here;
    while (const dirent* entry = ::readdir(directory.get())) {
        if (budget == 0) { break; }
        if (entry->d_name[0] == '.') { continue; }
        --budget;
        char target[64];
        const ssize_t length = ::readlinkat(::dirfd(directory.get()), entry->d_name, target, sizeof target);
        if (length <= 0) { continue; }
        const ino_t inode = socket_inode({target, static_cast<std::size_t>(length)});
        if (inode != 0 && wanted.erase(inode) != 0) { here.push_back(inode); }
    }
    if (here.empty()) { return; }
    const auto process = read_process(pid);
    for (const ino_t inode : here) {
        if (process) {
            found[inode] = process->id;
        } else {
            wanted.insert(inode);
        }
    }
}

std::string trimmed_line(std::string text) {
    text.resize(std::min(text.find('\n'), text.size()));
    return text;
}

}  // namespace

std::optional<ProcessStat> read_process(pid_t pid) {
    if (pid <= 0) { return std::nullopt; }
    const UniqueFd file = open_process(pid);
    return file.valid() ? read_process(pid, file) : std::nullopt;
}

UniqueFd open_process(pid_t pid) {
    return UniqueFd(::open(proc_path(pid, "stat").c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
}

std::optional<ProcessStat> read_process(pid_t pid, const UniqueFd& file) {
    // The kernel hands it out whole: 52 numbers and a name of at most 64 bytes (proc(5)).
    std::array<char, 2048> buffer;
    const auto size = ::pread(file.get(), buffer.data(), buffer.size(), 0);
    if (size <= 0) { return std::nullopt; }
    const std::string_view text(buffer.data(), static_cast<std::size_t>(size));
    // The name may contain spaces, parentheses and line ends; nothing after it contains a parenthesis.
    const std::size_t close = text.rfind(')');
    if (close == std::string::npos) { return std::nullopt; }
    std::string_view rest = text.substr(close + 1);
    ProcessStat stat;
    const std::string_view state = next_field(rest);
    const auto parent = number<pid_t>(next_field(rest));
    constexpr int k_first = 5;
    constexpr int k_start_time = 22;
    for (int field = k_first; field < k_start_time; ++field) { next_field(rest); }
    const auto ticks = number<std::uint64_t>(next_field(rest));
    constexpr int k_image = 48;
    for (int field = k_start_time + 1; field < k_image; ++field) { next_field(rest); }
    for (auto& address : stat.image) { address = number<std::uint64_t>(next_field(rest)).value_or(0); }
    if (state.size() != 1 || !parent || !ticks) { return std::nullopt; }
    stat.id = {pid, *ticks};
    stat.parent = *parent;
    stat.state = state.front();
    stat.started_at = start_time(*ticks);
    return stat;
}

std::vector<ProcessId> lineage_of(const ProcessId& process) {
    std::vector<ProcessId> line;
    auto stat = read_process(process.pid);
    if (!stat || stat->id != process) { return line; }
    while (stat && line.size() < k_max_ancestors) {
        line.push_back(stat->id);
        stat = stat->parent > 1 ? read_process(stat->parent) : std::nullopt;
    }
    return line;
}

bool is_shortage(int error) { return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS; }

bool is_alive(const ProcessId& process) {
    const UniqueFd file = process.pid > 0 ? open_process(process.pid) : UniqueFd();
    if (!file.valid()) { return process.pid > 0 && is_shortage(errno) && !is_pid_free(process.pid); }
    const auto stat = read_process(process.pid, file);
    return stat && stat->id == process && stat->runs();
}

bool is_pid_free(pid_t pid) { return ::kill(pid, 0) != 0 && errno == ESRCH; }

std::vector<std::string> read_arguments(pid_t pid) {
    const auto text = read_system_file(proc_path(pid, "cmdline"), k_argument_bytes);
    std::vector<std::string> arguments;
    if (!text) { return arguments; }
    std::string_view rest = *text;
    while (!rest.empty()) {
        const std::size_t end = rest.find('\0');
        arguments.emplace_back(rest.substr(0, end));
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
    return arguments;
}

std::string read_command(pid_t pid) { return command_of(pid, read_arguments(pid)); }

std::string command_of(pid_t pid, const std::vector<std::string>& arguments) {
    std::string line;
    // A program that rewrites its title (nginx, redis) leaves a tail of empty arguments.
    auto count = arguments.size();
    while (count > 0 && arguments[count - 1].empty()) { --count; }
    for (std::size_t i = 0; i < count; ++i) { line += (line.empty() ? "" : " ") + arguments[i]; }
    std::replace_if(line.begin(), line.end(), [](char c) { return c == '\n' || c == '\t' || c == '\r'; }, ' ');
    line = printable(line);
    if (!line.empty()) { return line; }
    const std::string name = printable(read_name(pid), 64);
    return name.empty() ? std::string() : "[" + name + "]";
}

std::string read_executable(pid_t pid) {
    std::string path = read_link(proc_path(pid, "exe"));
    // An executable that was replaced by an upgrade keeps its name.
    if (path.ends_with(k_deleted)) { path.resize(path.size() - k_deleted.size()); }
    return path.substr(path.rfind('/') + 1);
}

WorkingDirectory read_cwd(pid_t pid) {
    const std::string link = proc_path(pid, "cwd");
    WorkingDirectory found{read_link(link), false};
    auto& path = found.path;
    if (path.empty() || path.front() != '/') { return {}; }
    if (!path.ends_with(k_deleted)) { return found; }
    // A directory may be called "x (deleted)"; a removed one has no links, or (in an overlay) is not what is there.
    struct stat its {};
    struct stat there {};
    const bool known = ::stat(link.c_str(), &its) == 0;
    const bool here = known && its.st_nlink != 0 && ::stat(path.c_str(), &there) == 0 && there.st_dev == its.st_dev && there.st_ino == its.st_ino;
    if (here) { return found; }
    path.resize(path.size() - k_deleted.size());
    found.removed = true;
    return found;
}

std::optional<uid_t> read_uid(pid_t pid) {
    // The owner of /proc/PID would be root for a process that is not dumpable.
    const auto text = read_system_file(proc_path(pid, "status"), 8192);
    if (!text) { return std::nullopt; }
    const std::size_t at = text->find("\nUid:");
    if (at == std::string::npos) { return std::nullopt; }
    std::string_view rest = std::string_view(*text).substr(at + 5);
    next_field(rest);  // the real one; files and sockets belong to the effective one
    return number<uid_t>(next_field(rest));
}

namespace {
/// The text of a variable among those of a process, as /proc/PID/environ has them; none where it has none of that name.
std::optional<std::string_view> variable_in(std::string_view environment, std::string_view name) {
    while (!environment.empty()) {
        auto entry = environment.substr(0, environment.find('\0'));
        environment.remove_prefix(std::min(entry.size() + 1, environment.size()));
        if (entry.size() <= name.size() || entry[name.size()] != '=' || !entry.starts_with(name)) { continue; }
        entry.remove_prefix(name.size() + 1);
        return entry;
    }
    return std::nullopt;
}
}  // namespace

bool has_child_with_variable(pid_t pid, std::string_view name) {
    constexpr int k_children = 256;
    const auto text = read_system_file(proc_path(pid, "task") + "/" + std::to_string(pid) + "/children", 4096);
    if (!text) { return false; }
    std::string_view rest = *text;
    for (int i = 0; i < k_children; ++i) {
        const auto child = number<pid_t>(next_field(rest));
        if (!child) { return false; }
        const auto environment = read_system_file(proc_path(*child, "environ"), k_environment_bytes);
        if (environment && variable_in(*environment, name)) { return true; }
    }
    return false;
}

std::optional<std::string> read_variable(pid_t pid, std::string_view name) {
    const auto environment = read_system_file(proc_path(pid, "environ"), k_environment_bytes);
    const auto value = environment ? variable_in(*environment, name) : std::nullopt;
    return value ? std::optional<std::string>(*value) : std::nullopt;
}

bool has_mapped(pid_t pid, std::string_view file_name) {
    const auto maps = read_system_file(proc_path(pid, "maps"), k_map_bytes);
    return maps && maps->find('/' + std::string(file_name)) != std::string::npos;
}

std::string user_name(uid_t uid) {
    static std::mutex mutex;
    static std::map<uid_t, std::string> known;
    const std::lock_guard lock(mutex);
    if (const auto found = known.find(uid); found != known.end()) { return found->second; }
    std::string name = std::to_string(uid);
    const auto text = read_system_file("/etc/passwd", 4U << 20U).value_or("");
    std::string_view rest = text;
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find('\n'), rest.size());
        const std::string_view line = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        const std::size_t first = line.find(':');
        const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
        if (second == std::string_view::npos) { continue; }
        const std::string_view field = line.substr(second + 1, line.find(':', second + 1) - second - 1);
        if (first > 0 && number<uid_t>(field) == uid) {
            name = printable(line.substr(0, first), 64);
            break;
        }
    }
    return known.emplace(uid, name).first->second;
}

UniqueFd open_pidfd(pid_t pid) {
    if (pid <= 0) { return UniqueFd(); }
    // glibc 2.36 has pidfd_open, musl has not. The descriptor is close-on-exec by itself.
    return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U)));
}

std::map<ino_t, ProcessId> find_socket_holders(const std::vector<ino_t>& inodes, const std::vector<pid_t>& first) {
    std::set<ino_t> wanted(inodes.begin(), inodes.end());
    wanted.erase(0);
    std::map<ino_t, ProcessId> found;
    std::size_t budget = k_max_descriptors;
    std::vector<pid_t> likely = first;
    std::sort(likely.begin(), likely.end());
    likely.erase(std::unique(likely.begin(), likely.end()), likely.end());
    for (const pid_t pid : likely) {
        if (wanted.empty()) { return found; }
        look_into(pid, wanted, found, budget);
    }
    if (wanted.empty()) { return found; }
    for (const pid_t pid : all_processes()) {
        if (wanted.empty() || budget == 0) { break; }
        if (!std::binary_search(likely.begin(), likely.end(), pid)) { look_into(pid, wanted, found, budget); }
    }
    return found;
}

std::vector<ProcessLink> list_processes() {
    std::vector<ProcessLink> processes;
    for (const pid_t pid : all_processes()) {
        if (const auto stat = read_process(pid)) { processes.push_back({stat->id, stat->parent}); }
    }
    return processes;
}

std::string session_text(const ProcessId& session) { return std::to_string(session.pid) + '.' + std::to_string(session.start_ticks); }

std::optional<std::map<ProcessId, ProcessId>> find_survivors(const std::set<ProcessId>& sessions) {
    std::map<std::string, ProcessId, std::less<>> looked_for;
    for (const auto& session : sessions) { looked_for.emplace(session_text(session), session); }
    const auto pids = all_processes();
    if (pids.empty()) { return std::nullopt; }
    std::map<ProcessId, ProcessId> found;
    for (const pid_t pid : pids) {
        if (pid == ::getpid()) { continue; }  // the agent may have been started by a client in a session
        const auto environment = read_system_file(proc_path(pid, "environ"), k_environment_bytes);
        if (!environment && is_shortage(errno)) { return std::nullopt; }
        const auto value = environment ? variable_in(*environment, k_env_session) : std::nullopt;
        if (!value) { continue; }
        const auto session = looked_for.find(*value);
        if (session == looked_for.end() || found.contains(session->second)) { continue; }
        if (const auto process = read_process(pid); process && process->runs()) { found.emplace(session->second, process->id); }
    }
    return found;
}

std::string read_boot_id() {
    return trimmed_line(read_system_file("/proc/sys/kernel/random/boot_id", 128).value_or(""));
}

std::string read_machine_id() {
    for (const char* path : {"/etc/machine-id", "/var/lib/dbus/machine-id"}) {
        std::string id = printable(trimmed_line(read_system_file(path, 128).value_or("")), 64);
        // "uninitialized" is what systemd leaves in images until the first boot.
        if (!id.empty() && id != "uninitialized") { return id; }
    }
    return k_unknown_machine;
}

}  // namespace portwrap
