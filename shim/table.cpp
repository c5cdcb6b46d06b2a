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

/// RUNTIME/tables/NAME, the runtime directory being that of the agent's socket.
const Table* map_table(const Environment& where, std::uint64_t name) noexcept {
    constexpr char k_below[] = "tables/";
    std::size_t size = where.socket_path_size;
    while (size > 0 && where.socket_path[size - 1] != '/') {
        --size;
    }
    char path[k_socket_path_capacity + sizeof k_below + remap_table::k_name_digits];
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
    const int fd = above_standard(sys::open_for_reading(path));
    if (fd < 0) {
        return nullptr;
    }
    struct stat status {};
    const bool fits = sys::fstat(fd, status) == 0 && S_ISREG(status.st_mode) && status.st_uid == sys::geteuid() &&
                      status.st_size == static_cast<off_t>(sizeof(Table));
    const auto* table = fits ? static_cast<const Table*>(sys::map(sizeof(Table), PROT_READ, fd)) : nullptr;
    sys::close(fd);
    if (table != nullptr && !remap_table::is_table(*table)) {
        sys::unmap(table, sizeof(Table));
        return nullptr;
    }
    return table;
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
        sys::unmap(view->table, sizeof(Table));
        sys::unmap(view, k_view_size);
    }
    return expected;
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
    const Table* table = answer.name != 0 ? map_table(where, answer.name) : nullptr;
    if (table == nullptr || !is_inside(directory, size, *table)) {
        if (table != nullptr) {
            sys::unmap(table, sizeof(Table));
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
        table = map_table(where, answer.name);
        if (table == nullptr) {
            return nullptr;
        }
    }
    auto* view = static_cast<TableView*>(sys::map(k_view_size, PROT_READ | PROT_WRITE, -1));
    if (view == nullptr) {
        sys::unmap(table, sizeof(Table));
        return nullptr;
    }
    view->table = table;
    view->connect = answer.connect && where.connect;
    view->asker.session_pid = where.session.pid;
    view->asker.session_start = where.session.start_ticks;
    view->asker.directories = view->directories;
    view->asker.directory_count = hash_path(directory, size, view->directories);
    return publish(view, before);
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
    if (!remap_table::is_retired(*view.table)) {
        return nullptr;
    }
    const TableView* const latest = __atomic_load_n(&g_view, __ATOMIC_ACQUIRE);
    return latest != &view ? latest : find_view(where, may_ask, &view);
}

}  // namespace portwrap::shim
