// The project's remap table in this process: found and mapped at its first use, read without asking from then on.
// No lock and no heap: the view is built in a page of its own and published with one compare-and-swap, so that threads,
// signal handlers and children of vfork may all come first.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "environment.hpp"
#include "portwrap/remap_table.hpp"

namespace portwrap::shim {

struct TableView {
    static constexpr std::size_t k_directories = 64;
    const remap_table::Table* table = nullptr;  ///< null: this process has none
    bool connect = false;                       ///< connections are to be looked up
    std::uint64_t name = 0;                     ///< the table's
    dev_t device = 0;                           ///< its file's
    ino_t inode = 0;
    remap_table::Asker asker;
    std::uint64_t directories[k_directories] = {};
};

/// The table speaks of the agent's network namespace: is the socket in the same one, as far as the kernel tells?
[[nodiscard]] bool is_in_netns_of(int fd, const remap_table::Table& table) noexcept;

/// Which project this process belongs to is decided by its directory: the session's, if no worktree and no configured
/// project lies in between. Otherwise the agent knows, and with `may_ask` it is asked, once. Null: nothing is known now.
[[nodiscard]] const TableView* table_view(const Environment& where, bool may_ask) noexcept;

/// After each reading of a view: null where that counts, or nothing newer is to be had. Else the table was retired, or another one
/// took its place after it had ended, and this view, which may be one without a table, is to be read instead.
[[nodiscard]] const TableView* newer_view(const Environment& where, const TableView& view, bool may_ask) noexcept;

/// Shows `look` the view, and again where another one took its place meanwhile: the last look counts. That view, or null where there is none.
template <typename Look>
const TableView* look_up(const Environment& where, bool may_ask, const Look& look) noexcept {
    const TableView* view = table_view(where, may_ask);
    while (view != nullptr && view->table != nullptr) {
        look(*view);
        const TableView* const newer = newer_view(where, *view, may_ask);
        if (newer == nullptr) {
            return view;
        }
        view = newer;
    }
    return nullptr;
}

}  // namespace portwrap::shim
