// What stands in a post-checkout hook, ours or somebody else's. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "portwrap/result.hpp"

namespace portwrap {

/// A script that our lines can stand in: what its first line says (`env` and its options are looked through), or none, as git and
/// Husky run it. A program may be linked there, too.
[[nodiscard]] bool is_shell_script(std::string_view text);

/// The hook's text with our block behind its first line, so that the script's own `exit` does not skip it. No `old`: there is no file,
/// and the block says that we made it.
[[nodiscard]] Result<std::string> with_hook(const std::optional<std::string>& old);

/// The text without our block; nothing when the whole file was ours.
[[nodiscard]] Result<std::optional<std::string>> without_hook(std::string_view text);

/// Who reads the file that is to be changed.
struct HookPlace {
    std::string path;    ///< absolute
    bool husky = false;  ///< Husky 9 runs it by `sh -e`: it needs neither first line nor permission
};
/// `directory`: where git looks. Husky 9 generates what is in there (DIR/_, ignored by git), and the user's scripts lie one above;
/// `generated`: its files are there, whatever DIR is called.
[[nodiscard]] HookPlace hook_place(std::string directory, bool generated);

}  // namespace portwrap
