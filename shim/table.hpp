// The project's remap table in this process: found and mapped at its first use, read without asking from then on.
// No lock and no heap: the view is built in a page of its own and published with one compare-and-swap, so that threads,
// signal handlers and children of vfork may all come first.
#pragma once

#include <cstdint>

#include "environment.hpp"
#include "portwrap/remap_table.hpp"

namespace portwrap::shim {

struct TableView {
    static constexpr std::size_t k_directories = 64;
    const remap_table::Table* table = nullptr;  ///< null: this process has none
    bool connect = false;                       ///< connections are to be looked up
    remap_table::Asker asker;
    std::uint64_t directories[k_directories] = {};
};

/// The table speaks of the agent's network namespace: is the socket in the same one, as far as the kernel tells?
[[nodiscard]] bool is_in_netns_of(int fd, const remap_table::Table& table) noexcept;

/// Which project this process belongs to is decided by its directory: the session's, if no worktree and no configured
/// project lies in between. Otherwise the agent knows, and with `may_ask` it is asked, once. Null: nothing is known now.
[[nodiscard]] const TableView* table_view(const Environment& where, bool may_ask) noexcept;

}  // namespace portwrap::shim
