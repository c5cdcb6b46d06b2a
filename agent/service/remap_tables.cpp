#include "service/remap_tables.hpp"

#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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

struct Unmap {
    void operator()(Table* table) const { ::munmap(table, sizeof(Table)); }
};
using Mapping = std::unique_ptr<Table, Unmap>;

std::string file_of(const std::string& directory, std::uint64_t name) { return directory + "/" + table_name(name); }

Mapping map_file(int fd) {
    void* memory = ::mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return Mapping(memory == MAP_FAILED ? nullptr : static_cast<Table*>(memory));
}

/// A table that was published before; null when the file is none.
Mapping map_existing(const std::string& path) {
    const UniqueFd fd{::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
    struct stat status {};
    if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != ::geteuid() ||
        status.st_size != static_cast<off_t>(sizeof(Table))) {
        return nullptr;
    }
    auto table = map_file(fd.get());
    return table && remap_table::is_table(*table) ? std::move(table) : nullptr;
}

/// A new file, complete before it has its name. An errno in `error` when that cannot be.
Mapping make_file(const std::string& path, const std::string& root, int& error) {
    const auto unnamed = path + ".new";
    ::unlink(unnamed.c_str());
    const UniqueFd fd{::open(unnamed.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
    error = fd.valid() ? ::posix_fallocate(fd.get(), 0, sizeof(Table)) : errno;
    Mapping table;
    if (error == 0) {
        table = map_file(fd.get());
        error = table ? 0 : errno;
    }
    if (table) {
        table->magic = remap_table::k_magic;
        table->version = remap_table::k_version;
        table->root_size = root.size();
        std::memcpy(table->root, root.data(), root.size());
        if (::rename(unnamed.c_str(), path.c_str()) == 0) { return table; }
        error = errno;
    }
    ::unlink(unnamed.c_str());
    return nullptr;
}

std::string root_of(const Table& table) { return {table.root, static_cast<std::size_t>(table.root_size)}; }

/// The named file with this root, or a new one; `name` moves on over other roots' files.
Mapping open_table(const std::string& directory, const std::string& root, std::uint64_t& name, int& error) {
    for (std::uint64_t tried = 0; tried < k_names_tried; ++tried, ++name) {
        const auto path = file_of(directory, name);
        auto table = map_existing(path);
        if (!table) { return make_file(path, root, error); }
        if (root_of(*table) == root) { return table; }
    }
    error = EEXIST;
    return nullptr;
}

remap_table::Row to_row(const ConnectRow& row) {
    const auto kind = row.kind == ConnectKind::live     ? remap_table::RowKind::live
                      : row.kind == ConnectKind::sticky ? remap_table::RowKind::sticky
                                                        : remap_table::RowKind::refused;
    const auto session = row.session.value_or(ProcessId{});
    return remap_table::make_row(kind, row.port, row.target, static_cast<std::uint64_t>(session.pid), session.start_ticks,
                                 remap_table::hash_of(row.directory.data(), row.directory.size()));
}

std::string family_of(const Project& project) { return project.family + '\n' + project.root_commit; }

}  // namespace

std::string table_name(std::uint64_t name) {
    char digits[remap_table::k_name_digits];
    remap_table::write_name(name, digits);
    return {digits, sizeof digits};
}

struct RemapTables::Published {
    Published(std::uint64_t its_name, Mapping its_table, ConnectView its_view)
        : name(its_name), table(std::move(its_table)), view(std::move(its_view)) {}
    std::uint64_t name;
    Mapping table;
    ConnectView view;
    std::set<ProcessId> sessions;  ///< that may read it
    std::vector<ConnectRow> rows;  ///< as published
    bool fresh = true;             ///< nothing was published by this agent yet
};

RemapTables::RemapTables(Options options) : m_options(std::move(options)) {}
RemapTables::~RemapTables() = default;

bool RemapTables::make_directory() const {
    if (::mkdir(m_options.directory.c_str(), 0700) == 0) { return true; }
    struct stat status {};
    return errno == EEXIST && ::lstat(m_options.directory.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
           status.st_uid == ::geteuid() && (status.st_mode & 0077) == 0;
}

void RemapTables::start(const Registry& registry) {
    for (const auto& [root, project] : registry.projects()) { m_families[root] = family_of(project); }
    std::vector<std::string> known;
    if (DIR* directory = ::opendir(m_options.directory.c_str())) {
        while (const dirent* entry = ::readdir(directory)) {
            std::uint64_t name = 0;
            if (!remap_table::read_name(entry->d_name, std::strlen(entry->d_name), name)) { continue; }
            if (const auto table = map_existing(file_of(m_options.directory, name))) { known.push_back(root_of(*table)); }
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
    for (const auto& root : all) { rest_if_unused(root); }
}

void RemapTables::on_event(const Event& event, const Registry& registry) {
    if (const auto* changed = std::get_if<LeaseEvent>(&event.change)) {
        const auto& lease = changed->lease;
        if (lease.live() && (lease.session || !lease.sockets.empty())) { find_or_open(lease.key.root, registry); }
        for (const auto& [root, table] : m_tables) {
            if (table->view.reconsider(registry, lease.id)) { publish(*table); }
        }
        rest_if_unused(lease.key.root);
    } else if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
        std::vector<std::string> roots;
        for (const auto& [root, table] : m_tables) {
            if (!table->view.reconsider(registry, forgotten->id)) { continue; }
            publish(*table);
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
            publish(*table);
        }
    } else if (const auto* gone = std::get_if<ProjectForgotten>(&event.change)) {
        m_families.erase(gone->root);
        if (is_unused(gone->root)) { close(gone->root); }
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
    if (const auto known = m_tables.find(root); known != m_tables.end()) { return known->second.get(); }
    if (root.size() > remap_table::k_root_capacity) { return nullptr; }
    auto name = std::max<std::uint64_t>(remap_table::hash_of(root.data(), root.size()), 1);
    int error = EACCES;
    auto mapping = make_directory() ? open_table(m_options.directory, root, name, error) : nullptr;
    if (!mapping) {
        m_options.log_trouble("no table for connections in " + m_options.directory + ": " + std::strerror(error));
        return nullptr;
    }
    auto table = std::make_unique<Published>(name, std::move(mapping), ConnectView(registry, root));
    publish(*table);
    return m_tables.emplace(root, std::move(table)).first->second.get();
}

void RemapTables::publish(Published& table) {
    auto rows = table.view.rows(remap_table::k_rows);
    if (rows == table.rows && !table.fresh) { return; }
    std::vector<remap_table::Row> packed;
    packed.reserve(rows.size());
    for (const auto& row : rows) { packed.push_back(to_row(row)); }
    remap_table::write(*table.table, packed.data(), packed.size(), static_cast<std::uint64_t>(m_options.agent.pid),
                       m_options.agent.start_ticks, m_options.netns);
    table.rows = std::move(rows);
    table.fresh = false;
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

void RemapTables::close(const std::string& root) {
    const auto known = m_tables.find(root);
    if (known == m_tables.end()) { return; }
    // Nobody tells it of others any more: what it says of them must not outlive that.
    auto& table = *known->second;
    std::vector<remap_table::Row> sticky;
    for (const auto& row : table.rows) {
        if (row.kind == ConnectKind::sticky) { sticky.push_back(to_row(row)); }
    }
    remap_table::write(*table.table, sticky.data(), sticky.size(), static_cast<std::uint64_t>(m_options.agent.pid),
                       m_options.agent.start_ticks, m_options.netns);
    m_tables.erase(known);
    m_resting.remove(root);
}

}  // namespace portwrap
