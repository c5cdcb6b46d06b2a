#include "service/remap_tables.hpp"

#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "portwrap/remap_table.hpp"
#include "portwrap/unique_fd.hpp"

namespace portwrap {
namespace {

using remap_table::Table;

/// Tables that are kept up to date although nobody is known to read them. Each costs a look at each change of a lease.
constexpr std::size_t k_resting = 64;
/// Two roots with one hash are unlikely, more than this many impossible in practice.
constexpr std::uint64_t k_names_tried = 4;
/// A file that has not got its name yet.
constexpr std::string_view k_unnamed = ".new";

constexpr auto k_size = static_cast<off_t>(sizeof(Table));

/// The tables that this thread has mapped, for the kernel: when the thread ends, it looks through the list and marks as ended each one
/// whose agent_pid is the thread's. An entry stands right before its table.
class Mapped {
public:
    static void add(robust_list& entry) {
        auto& list = head();
        entry.next = list.list.next;
        std::atomic_signal_fence(std::memory_order_release);
        list.list.next = &entry;
        // Each time: the list of a process is none of its child's.
        (void)::syscall(SYS_set_robust_list, &list, sizeof list);
    }
    static void remove(const robust_list& entry) {
        auto* before = &head().list;
        while (before->next != &head().list && before->next != &entry) { before = before->next; }
        if (before->next == &entry) { before->next = entry.next; }
    }

private:
    static robust_list_head& head() {
        thread_local robust_list_head list{{&list.list}, sizeof(robust_list) + offsetof(Table, agent_pid), nullptr};
        return list;
    }
};

/// A table's file behind a page of our own, at whose end its entry stands.
struct Unmap {
    static std::size_t own_page() {
        static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
        return size;
    }
    static robust_list& entry_of(Table* table) { return reinterpret_cast<robust_list*>(table)[-1]; }
    void operator()(Table* table) const {
        Mapped::remove(entry_of(table));
        ::munmap(reinterpret_cast<char*>(table) - own_page(), own_page() + sizeof(Table));
    }
};
using Mapping = std::unique_ptr<Table, Unmap>;

}  // namespace

/// A mapped table and its file.
struct TableFile {
    Mapping table;
    UniqueFd fd;
    dev_t device = 0;
    ino_t inode = 0;
};

namespace {

bool is_same_file(const TableFile& a, const TableFile& b) { return a.device == b.device && a.inode == b.inode; }

/// Whether what is mapped of the file can be touched. Where somebody has truncated it, it gets its size back first, with zeros.
bool has_its_size(const UniqueFd& fd) {
    struct stat status {};
    return ::fstat(fd.get(), &status) == 0 && (status.st_size >= k_size || ::posix_fallocate(fd.get(), 0, k_size) == 0);
}

void retire(const TableFile& file) {
    if (has_its_size(file.fd)) { remap_table::retire(*file.table); }
}

/// What a table says of itself.
void write_header(Table& table, const std::string& root) {
    table.magic = remap_table::k_magic;
    table.root_size = root.size();
    std::memcpy(table.root, root.data(), root.size());
    remap_table::instate(table);
}

std::string file_of(const std::string& directory, std::uint64_t name) { return directory + "/" + table_name(name); }

/// Without a table where there is no memory.
TableFile map_file(UniqueFd fd, const struct stat& status) {
    const auto own_page = Unmap::own_page();
    void* memory = ::mmap(nullptr, own_page + sizeof(Table), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) { return {}; }
    void* mapped = ::mmap(static_cast<char*>(memory) + own_page, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd.get(), 0);
    if (mapped == MAP_FAILED) {
        const int error = errno;
        ::munmap(memory, own_page + sizeof(Table));
        errno = error;
        return {};
    }
    Mapping table(static_cast<Table*>(mapped));
    Mapped::add(Unmap::entry_of(table.get()));
    return {std::move(table), std::move(fd), status.st_dev, status.st_ino};
}

/// A file that may be a table's; none where it cannot be.
UniqueFd open_existing(const std::string& path, struct stat& status) {
    UniqueFd fd{::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    if (fd.valid() && (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != ::geteuid())) { fd.reset(); }
    return fd;
}

/// A table that was published before; none when the file is none.
TableFile map_existing(const std::string& path) {
    struct stat status {};
    auto fd = open_existing(path, status);
    if (!fd.valid() || status.st_size != k_size) { return {}; }
    auto opened = map_file(std::move(fd), status);
    return opened.table && remap_table::is_table(*opened.table) ? std::move(opened) : TableFile{};
}

/// A file that is to lose its name and is no table, or none any more: who has it mapped can go on reading, and looks for another one.
void retire_damaged(const std::string& path) {
    struct stat status {};
    const auto fd = open_existing(path, status);
    constexpr std::uint64_t k_retired = 0;
    if (fd.valid() && has_its_size(fd)) { (void)!::pwrite(fd.get(), &k_retired, sizeof k_retired, offsetof(Table, version)); }
}

/// A new file, complete before it has its name. An errno in `error` when that cannot be.
template <typename Fill>
TableFile make_file(const std::string& path, const std::string& root, const Fill& fill, int& error) {
    const auto unnamed = path + std::string(k_unnamed);
    ::unlink(unnamed.c_str());
    UniqueFd fd{::open(unnamed.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
    struct stat status {};
    error = fd.valid() ? ::posix_fallocate(fd.get(), 0, sizeof(Table)) : errno;
    if (error == 0 && ::fstat(fd.get(), &status) != 0) { error = errno; }
    TableFile opened;
    if (error == 0) {
        opened = map_file(std::move(fd), status);
        error = opened.table ? 0 : errno;
    }
    if (opened.table) {
        write_header(*opened.table, root);
        fill(opened);
        retire_damaged(path);
        if (::rename(unnamed.c_str(), path.c_str()) == 0) { return opened; }
        error = errno;
    }
    ::unlink(unnamed.c_str());
    return {};
}

std::string root_of(const Table& table) { return {table.root, static_cast<std::size_t>(table.root_size)}; }

/// Another root's table may have the first one.
std::uint64_t first_name_of(const std::string& root) { return std::max<std::uint64_t>(remap_table::hash_of(root.data(), root.size()), 1); }

/// The file with this root, and its `name`. Else none: then `name` is where nothing is that another root has, or 0 when others have all.
TableFile find_file(const std::string& directory, const std::string& root, std::uint64_t& name) {
    name = first_name_of(root);
    for (std::uint64_t tried = 0; tried < k_names_tried; ++tried, ++name) {
        auto opened = map_existing(file_of(directory, name));
        if (!opened.table || root_of(*opened.table) == root) { return opened; }
    }
    name = 0;
    return {};
}

/// The file with this root, or a new one, with what `fill` writes.
template <typename Fill>
TableFile open_table(const std::string& directory, const std::string& root, std::uint64_t& name, const Fill& fill, int& error) {
    auto opened = find_file(directory, root, name);
    if (opened.table) {
        fill(opened);
    } else if (name != 0) {
        return make_file(file_of(directory, name), root, fill, error);
    } else {
        error = EEXIST;
    }
    return opened;
}

/// Whoever has it mapped looks for another one.
void remove_file(const std::string& path, const TableFile& file) {
    ::unlink(path.c_str());
    retire(file);
}

remap_table::Row to_row(const ConnectRow& row) {
    const auto kind = row.kind == ConnectKind::live     ? remap_table::RowKind::live
                      : row.kind == ConnectKind::sticky ? remap_table::RowKind::sticky
                                                        : remap_table::RowKind::refused;
    const auto session = row.session.value_or(ProcessId{});
    return remap_table::make_row(kind, row.port, row.target, static_cast<std::uint64_t>(session.pid), session.start_ticks,
                                 remap_table::hash_of(row.directory.data(), row.directory.size()));
}

std::vector<ConnectRow> sticky_among(const std::vector<ConnectRow>& rows) {
    std::vector<ConnectRow> sticky;
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(sticky), [](const ConnectRow& row) { return row.kind == ConnectKind::sticky; });
    return sticky;
}

std::string family_of(const Project& project) { return project.family + '\n' + project.root_commit; }

}  // namespace

std::string table_name(std::uint64_t name) {
    char digits[remap_table::k_name_digits];
    remap_table::write_name(name, digits);
    return {digits, sizeof digits};
}

struct RemapTables::Published {
    explicit Published(ConnectView its_view) : view(std::move(its_view)) {}
    std::uint64_t name = 0;
    TableFile file;
    ConnectView view;
    std::set<ProcessId> sessions;  ///< that may read it
    std::vector<ConnectRow> rows;  ///< as published
};

RemapTables::RemapTables(Outside& outside, Options options) : m_outside(outside), m_options(std::move(options)) {}
RemapTables::~RemapTables() = default;

bool RemapTables::make_directory() {
    const bool made = ::mkdir(m_options.directory.c_str(), 0700) == 0;
    struct stat status {};
    const bool usable = (made || errno == EEXIST) && ::lstat(m_options.directory.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
                        status.st_uid == ::geteuid() && (status.st_mode & 0077) == 0;
    if (usable && (made || m_watched != std::pair(status.st_dev, status.st_ino))) {
        m_watched = {status.st_dev, status.st_ino};
        watch_directory();
        m_is_another_directory = true;
    }
    return usable;
}

void RemapTables::mind_directory() {
    if (std::exchange(m_is_another_directory, false)) { (void)keep_in_place(); }
}

void RemapTables::watch_directory() {
    (void)m_outside.watch_directory(m_options.directory, [this](std::string_view name) {
        std::uint64_t changed = 0;
        if (!remap_table::read_name(name.data(), name.size(), changed)) {
            if (!name.ends_with(k_unnamed)) { keep_in_place(); }
            return;
        }
        for (const auto& [root, table] : m_tables) {
            if (table->name == changed) { (void)put_in_place(root, *table); }
        }
        mind_directory();
    });
}

void RemapTables::start(const Registry& registry) {
    for (const auto& [root, project] : registry.projects()) { m_families[root] = family_of(project); }
    std::set<std::string> in_use;
    for (const auto& [id, session] : registry.sessions()) { in_use.insert(session.root); }
    std::vector<std::string> known;
    if (DIR* directory = ::opendir(m_options.directory.c_str())) {
        (void)make_directory();  // and watched from here on
        while (const dirent* entry = ::readdir(directory)) {
            const std::string_view file = entry->d_name;
            const bool unnamed = file.ends_with(k_unnamed);
            std::uint64_t name = 0;
            if (!remap_table::read_name(file.data(), file.size() - (unnamed ? k_unnamed.size() : 0), name)) { continue; }
            const auto path = m_options.directory + "/" + std::string(file);
            const auto opened = map_existing(path);
            auto root = opened.table && !unnamed ? root_of(*opened.table) : std::string();
            if (!root.empty() && (registry.find_project(root) != nullptr || in_use.contains(root) || !registry.of_project(root).empty())) {
                known.push_back(std::move(root));
            } else if (opened.table) {
                remove_file(path, opened);
            } else {
                retire_damaged(path);
                ::unlink(path.c_str());
            }
        }
        ::closedir(directory);
    }
    for (const auto& root : known) { find_or_open(root, registry); }
    for (const auto& [id, session] : registry.sessions()) {
        if (auto* table = find_or_open(session.root, registry)) { table->sessions.insert(id); }
    }
    for (const auto& [id, lease] : registry.leases()) {
        if (lease.live() && (lease.session || !lease.sockets.empty())) { find_or_open(lease.key.root, registry); }
    }
    std::vector<std::string> all;
    for (const auto& [root, table] : m_tables) { all.push_back(root); }
    for (const auto& root : all) {
        // Nobody can have found one useful that says nothing.
        if (is_unused(root) && m_tables.at(root)->rows.empty()) {
            close(root);
        } else {
            rest_if_unused(root);
        }
    }
}

void RemapTables::on_event(const Event& event, const Registry& registry) {
    if (const auto* changed = std::get_if<LeaseEvent>(&event.change)) {
        const auto& lease = changed->lease;
        if (lease.live() && (lease.session || !lease.sockets.empty())) { find_or_open(lease.key.root, registry); }
        for (const auto& [root, table] : m_tables) {
            if (table->view.reconsider(registry, lease.id)) { publish(root, *table); }
        }
        rest_if_unused(lease.key.root);
    } else if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
        std::vector<std::string> roots;
        for (const auto& [root, table] : m_tables) {
            if (!table->view.reconsider(registry, forgotten->id)) { continue; }
            publish(root, *table);
            roots.push_back(root);
        }
        for (const auto& root : roots) { rest_if_unused(root); }
    } else if (const auto* seen = std::get_if<ProjectSeen>(&event.change)) {
        auto now = family_of(seen->project);
        const auto [family, is_new] = m_families.try_emplace(seen->project.root, now);
        if (!is_new && family->second == now) { return; }
        family->second = std::move(now);
        for (const auto& [root, table] : m_tables) {
            // A project that is seen for the first time has nothing yet that others could want to know.
            if (is_new && root != seen->project.root) { continue; }
            table->view = ConnectView(registry, root);
            publish(root, *table);
        }
    } else if (const auto* gone = std::get_if<ProjectForgotten>(&event.change)) {
        m_families.erase(gone->root);
        let_go(gone->root);
    } else if (const auto* opened = std::get_if<SessionOpened>(&event.change)) {
        // Its worktree may have been moved, or it has become another run in another project: then it reads this one from its next program on.
        std::vector<std::string> left;
        for (const auto& [root, table] : m_tables) {
            if (root != opened->session.root && table->sessions.erase(opened->session.id) > 0) { left.push_back(root); }
        }
        if (auto* table = find_or_open(opened->session.root, registry)) { table->sessions.insert(opened->session.id); }
        for (const auto& root : left) { rest_if_unused(root); }
    } else if (const auto* closed = std::get_if<SessionClosed>(&event.change)) {
        std::vector<std::string> roots;
        for (const auto& [root, table] : m_tables) {
            if (table->sessions.erase(closed->id) > 0) { roots.push_back(root); }
        }
        for (const auto& root : roots) { rest_if_unused(root); }
    }
}

std::uint64_t RemapTables::open(const std::string& root, const ProcessId& session, const Registry& registry) {
    auto* table = find_or_open(root, registry);
    if (table == nullptr) { return 0; }
    if (registry.find_session(session) != nullptr) { table->sessions.insert(session); }
    rest_if_unused(root);
    return table->name;
}

LeaseId RemapTables::refused_by(const std::string& root, Port port) const {
    const auto table = m_tables.find(root);
    return table == m_tables.end() ? 0 : table->second->view.refused_by(port);
}

RemapTables::Published* RemapTables::find_or_open(const std::string& root, const Registry& registry) {
    if (const auto known = m_tables.find(root); known != m_tables.end()) {
        (void)put_in_place(root, *known->second);
        mind_directory();
        return known->second.get();
    }
    if (root.size() > remap_table::k_root_capacity) { return nullptr; }
    auto table = std::make_unique<Published>(ConnectView(registry, root));
    table->rows = table->view.rows(remap_table::k_rows);
    if (!open_file(root, *table)) { return nullptr; }
    auto* opened = m_tables.emplace(root, std::move(table)).first->second.get();
    mind_directory();
    return opened;
}

bool RemapTables::open_file(const std::string& root, Published& table) {
    int error = EACCES;
    std::uint64_t name = 0;
    auto opened = make_directory() ? open_table(m_options.directory, root, name, [&](const TableFile& file) { write(file, table.rows); }, error) : TableFile{};
    if (!opened.table) {
        note_problem(error);
        return false;
    }
    m_problem.clear();
    table.name = name;
    const auto before = std::exchange(table.file, std::move(opened));
    if (before.table && !is_same_file(before, table.file)) { give_up(before, table.rows); }
    return true;
}

void RemapTables::note_problem(int error) {
    auto problem = "no table for connections in " + m_options.directory + ": " + std::strerror(error);
    if (m_problem != problem) { m_options.log_trouble(problem); }
    m_problem = std::move(problem);
}

bool RemapTables::has_its_name(const Published& table, off_t& size) const {
    struct stat status {};
    const bool has = ::lstat(file_of(m_options.directory, table.name).c_str(), &status) == 0 && status.st_dev == table.file.device && status.st_ino == table.file.inode;
    size = status.st_size;
    return has;
}

bool RemapTables::put_in_place(const std::string& root, Published& table) {
    off_t size = 0;
    if (!has_its_name(table, size)) { return open_file(root, table); }
    if (size == k_size && remap_table::is_table(*table.file.table)) { return true; }
    if (!has_its_size(table.file.fd) || ::ftruncate(table.file.fd.get(), k_size) != 0) { return open_file(root, table); }
    write_header(*table.file.table, root);
    write(table.file, table.rows);
    return true;
}

std::string RemapTables::keep_in_place() {
    bool all = make_directory();
    if (!all) { note_problem(EACCES); }
    for (const auto& [root, table] : m_tables) { all = put_in_place(root, *table) && all; }
    return all ? std::string() : m_problem;
}

void RemapTables::leave() {
    for (const auto& [root, table] : m_tables) {
        if (off_t size = 0; has_its_name(*table, size)) {
            end(table->file);
        } else {
            give_up(table->file, table->rows);
        }
    }
    m_tables.clear();
}

void RemapTables::write(const TableFile& file, const std::vector<ConnectRow>& rows) const {
    if (!has_its_size(file.fd)) { return; }
    std::vector<remap_table::Row> packed;
    packed.reserve(rows.size());
    for (const auto& row : rows) { packed.push_back(to_row(row)); }
    remap_table::write(*file.table, packed.data(), packed.size(), static_cast<std::uint64_t>(m_options.agent.pid), m_options.agent.start_ticks,
                       m_options.netns);
}

void RemapTables::give_up(const TableFile& file, const std::vector<ConnectRow>& rows) const {
    retire(file);
    write(file, sticky_among(rows));
}

void RemapTables::end(const TableFile& file) const {
    if (has_its_size(file.fd)) { remap_table::end(*file.table, static_cast<std::uint64_t>(m_options.agent.pid)); }
}

void RemapTables::publish(const std::string& root, Published& table) {
    auto rows = table.view.rows(remap_table::k_rows);
    if (rows == table.rows) { return; }
    table.rows = std::move(rows);
    (void)put_in_place(root, table);
    mind_directory();
    write(table.file, table.rows);
}

bool RemapTables::is_unused(const std::string& root) const {
    const auto known = m_tables.find(root);
    return known != m_tables.end() && known->second->sessions.empty() && !known->second->view.is_used();
}

void RemapTables::rest_if_unused(const std::string& root) {
    if (!is_unused(root)) { return; }
    m_resting.remove(root);
    m_resting.push_back(root);
    while (m_resting.size() > k_resting) {
        const auto longest = std::move(m_resting.front());
        m_resting.pop_front();
        if (is_unused(longest)) { close(longest); }
    }
}

void RemapTables::close(const std::string& root, bool keep) {
    const auto known = m_tables.find(root);
    if (known == m_tables.end()) { return; }
    auto& table = *known->second;
    // Nobody tells it of others any more: what it says of them must not outlive that.
    if (const auto sticky = sticky_among(table.rows); keep && !sticky.empty()) {
        write(table.file, sticky);
        end(table.file);
    } else {
        if (off_t size = 0; has_its_name(table, size)) { ::unlink(file_of(m_options.directory, table.name).c_str()); }
        give_up(table.file, {});
    }
    m_tables.erase(known);
    m_resting.remove(root);
}

void RemapTables::let_go(const std::string& root) {
    if (m_tables.contains(root)) {
        if (is_unused(root)) { close(root, false); }
        return;
    }
    std::uint64_t name = 0;
    if (const auto opened = find_file(m_options.directory, root, name); opened.table) { remove_file(file_of(m_options.directory, name), opened); }
}

}  // namespace portwrap
