// See table.hpp.
#include "table.hpp"

#include <sys/stat.h>

#include "ask.hpp"
#include "page.hpp"
#include "sockets.hpp"
#include "syscalls.hpp"

namespace portwrap::shim {

namespace {

using remap_table::Table;

constexpr std::size_t k_path_capacity = Page::k_size;
constexpr std::size_t k_view_size = 4096;
static_assert(sizeof(TableView) <= k_view_size);

/// What a process without a table has.
const TableView k_no_table;
const TableView* g_view = nullptr;

constexpr char k_below[] = "tables/";
using TablePath = char[k_socket_path_capacity + sizeof k_below + remap_table::k_name_digits];

/// RUNTIME/tables/NAME, the runtime directory being that of the agent's socket.
void write_path(const Environment& where, std::uint64_t name, TablePath& path) noexcept {
    std::size_t size = where.socket_path_size;
    while (size > 0 && where.socket_path[size - 1] != '/') {
        --size;
    }
    for (std::size_t i = 0; i < size; ++i) {
        path[i] = where.socket_path[i];
    }
    for (const char* c = k_below; *c != '\0'; ++c) {
        path[size++] = *c;
    }
    char digits[remap_table::k_name_digits];
    remap_table::write_name(name, digits);
    for (const char digit : digits) {
        path[size++] = digit;
    }
    path[size] = '\0';
}

/// A mapped table and its file; without one where there is none.
struct Mapped {
    const Table* table = nullptr;
    std::uint64_t name = 0;
    dev_t device = 0;
    ino_t inode = 0;
};

void unmap(const Table* table) noexcept { sys::unmap(table, sizeof(Table)); }

Mapped map_table(const Environment& where, std::uint64_t name) noexcept {
    TablePath path;
    write_path(where, name, path);
    const int fd = above_standard(sys::open_for_reading(path));
    if (fd < 0) {
        return {};
    }
    struct stat status {};
    const bool fits = sys::fstat(fd, status) == 0 && S_ISREG(status.st_mode) && status.st_uid == sys::geteuid() &&
                      status.st_size == static_cast<off_t>(sizeof(Table));
    const auto* table = fits ? static_cast<const Table*>(sys::map(sizeof(Table), PROT_READ, fd)) : nullptr;
    sys::close(fd);
    if (table != nullptr && !remap_table::is_table(*table)) {
        unmap(table);
        return {};
    }
    return {table, name, status.st_dev, status.st_ino};
}

bool has_file(char (&directory)[k_path_capacity], std::size_t size, const char* name) noexcept {
    std::size_t end = size;
    directory[end++] = '/';
    for (; *name != '\0' && end < k_path_capacity - 1; ++name) {
        directory[end++] = *name;
    }
    directory[end] = '\0';
    return sys::exists(directory);
}

/// Whether the directory is the root or lies below it without another worktree or configured project in between. Uses
/// the memory behind the path.
bool is_inside(char (&directory)[k_path_capacity], std::size_t size, const Table& table) noexcept {
    constexpr std::size_t k_longest_name = 16;
    constexpr unsigned k_levels = 64;
    const auto root_size = static_cast<std::size_t>(table.root_size);
    if (size + k_longest_name >= k_path_capacity || root_size < 2 || size < root_size ||
        __builtin_memcmp(directory, table.root, root_size) != 0 || (size > root_size && directory[root_size] != '/')) {
        return false;
    }
    for (unsigned level = 0; size > root_size; ++level) {
        if (level == k_levels || has_file(directory, size, ".git") || has_file(directory, size, ".portwrap.json")) {
            return false;
        }
        do {
            --size;
        } while (size > root_size && directory[size] != '/');
    }
    return true;
}

/// The hashes of a path and its parents, the deepest first.
std::size_t hash_path(const char* path, std::size_t size, std::uint64_t (&hashes)[TableView::k_directories]) noexcept {
    std::size_t levels = size > 1 ? 1 : 0;
    for (std::size_t i = 1; i < size; ++i) {
        // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): the kernel filled it, up to size
        levels += path[i] == '/' ? 1U : 0U;
    }
    std::uint64_t state = remap_table::k_hash_start;
    std::size_t level = levels;
    for (std::size_t i = 0; i <= size && level > 0; ++i) {
        if (i == size || (path[i] == '/' && i > 0)) {
            if (--level < TableView::k_directories) {
                hashes[level] = state;
            }
        }
        if (i < size) {
            state = remap_table::hash_on(state, path[i]);
        }
    }
    return levels < TableView::k_directories ? levels : TableView::k_directories;
}

/// The first view that takes the place of the one before (null: of none) is everybody's. That one stays as it is: somebody may be reading it.
const TableView* publish(const TableView* view, const TableView* before) noexcept {
    const TableView* expected = before;
    if (__atomic_compare_exchange_n(&g_view, &expected, view, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        return view;
    }
    if (view != &k_no_table) {
        unmap(view->table);
        sys::unmap(view, k_view_size);
    }
    return expected;
}

/// A view of the table, without what its process is; the mapping is the view's, or gone. Null: there was no memory.
TableView* make_view(const Mapped& mapped) noexcept {
    auto* view = static_cast<TableView*>(sys::map(k_view_size, PROT_READ | PROT_WRITE, -1));
    if (view == nullptr) {
        unmap(mapped.table);
        return nullptr;
    }
    view->table = mapped.table;
    view->name = mapped.name;
    view->device = mapped.device;
    view->inode = mapped.inode;
    return view;
}

const TableView* find_view(const Environment& where, bool may_ask, const TableView* before) noexcept {
    const Page page;
    if (!page.valid()) {
        return nullptr;
    }
    auto& directory = page.bytes();
    const long length = sys::getcwd(directory, sizeof directory);
    const std::size_t size = length > 1 ? static_cast<std::size_t>(length) - 1 : 0;
    TableAnswer answer{where.table, where.connect};
    Mapped mapped = answer.name != 0 ? map_table(where, answer.name) : Mapped{};
    if (mapped.table == nullptr || !is_inside(directory, size, *mapped.table)) {
        if (mapped.table != nullptr) {
            unmap(mapped.table);
        }
        if (!may_ask) {
            return nullptr;
        }
        {
            Exchange exchange(where);
            if (!exchange.open() || !exchange.ask_table(where.session, answer)) {
                return nullptr;
            }
        }
        if (answer.name == 0) {
            return publish(&k_no_table, before);
        }
        mapped = map_table(where, answer.name);
        if (mapped.table == nullptr) {
            return nullptr;
        }
    }
    auto* view = make_view(mapped);
    if (view == nullptr) {
        return nullptr;
    }
    view->connect = answer.connect && where.connect;
    view->asker.session_pid = where.session.pid;
    view->asker.session_start = where.session.start_ticks;
    view->asker.directories = view->directories;
    view->asker.directory_count = hash_path(directory, size, view->directories);
    return publish(view, before);
}

bool is_same_root(const Table& a, const Table& b) noexcept {
    return a.root_size == b.root_size && __builtin_memcmp(a.root, b.root, static_cast<std::size_t>(a.root_size)) == 0;
}

/// A view like the one before, of the project's table that is in its place now. Null where that is the same one, or none: one look
/// at a path, which maps nothing.
const TableView* find_successor(const Environment& where, const TableView& before) noexcept {
    TablePath path;
    write_path(where, before.name, path);
    struct stat status {};
    if (sys::stat(path, status) != 0 || (status.st_dev == before.device && status.st_ino == before.inode)) {
        return nullptr;
    }
    const Mapped mapped = map_table(where, before.name);
    if (mapped.table == nullptr) {
        return nullptr;
    }
    if (!is_same_root(*mapped.table, *before.table)) {
        unmap(mapped.table);
        return nullptr;
    }
    auto* view = make_view(mapped);
    if (view == nullptr) {
        return nullptr;
    }
    view->connect = before.connect;
    view->asker = before.asker;
    view->asker.directories = view->directories;
    for (std::size_t i = 0; i < before.asker.directory_count; ++i) {
        view->directories[i] = before.directories[i];
    }
    return publish(view, &before);
}

}  // namespace

bool is_in_netns_of(int fd, const Table& table) noexcept {
    const auto theirs = __atomic_load_n(&table.netns, __ATOMIC_RELAXED);
    const auto ours = theirs != 0 ? netns_of(fd) : 0;
    return ours == 0 || ours == theirs;
}

const TableView* table_view(const Environment& where, bool may_ask) noexcept {
    const TableView* const view = __atomic_load_n(&g_view, __ATOMIC_ACQUIRE);
    const TableView* const known = view != nullptr ? view : find_view(where, may_ask, nullptr);
    return known != nullptr && known->table != nullptr ? known : nullptr;
}

const TableView* newer_view(const Environment& where, const TableView& view, bool may_ask) noexcept {
    const bool retired = remap_table::is_retired(*view.table);
    if (!retired && !remap_table::has_ended(*view.table)) {
        return nullptr;
    }
    const TableView* const latest = __atomic_load_n(&g_view, __ATOMIC_ACQUIRE);
    if (latest != &view) {
        return latest;
    }
    return retired ? find_view(where, may_ask, &view) : find_successor(where, view);
}

}  // namespace portwrap::shim
