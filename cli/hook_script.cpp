// See hook_script.hpp.
#include "hook_script.hpp"

#include <algorithm>
#include <array>

#include "guarded_block.hpp"

namespace portwrap {

namespace {

/// git says in the third argument what was checked out: 1 a branch, 0 files, which changes no worktree's ports.
constexpr std::string_view k_block = "if [ \"${3-1}\" != 0 ] && command -v portctl >/dev/null 2>&1; then portctl hooks run </dev/null || :; fi\n";
/// In the block of a file that was not there before.
constexpr std::string_view k_made = "# portctl made this file; it goes with this block\n";
constexpr std::string_view k_shebang = "#!/bin/sh\n";

std::string_view next_word(std::string_view& line) {
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    const auto word = line.substr(0, line.find_first_of(" \t\r"));
    line.remove_prefix(word.size());
    return word;
}

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

bool is_shell_script(std::string_view text) {
    if (text.find('\0') != std::string_view::npos) { return false; }
    if (!text.starts_with("#!")) { return true; }
    auto line = text.substr(2, text.find('\n') - 2);
    auto program = file_name(next_word(line));
    while (program == "env" || program.starts_with('-') || program.find('=') != std::string_view::npos) {
        // `env -S bash`, `env -Sbash`, `env -S NAME=value bash`
        const bool joined = program.starts_with("-S") && program.size() > 2;
        program = joined ? file_name(program.substr(2)) : file_name(next_word(line));
    }
    constexpr std::array<std::string_view, 6> k_shells{"sh", "bash", "dash", "zsh", "ksh", "ash"};
    return std::find(k_shells.begin(), k_shells.end(), program) != k_shells.end();
}

Result<std::string> with_hook(const std::optional<std::string>& old) {
    const bool ours = !old || old->find(k_made) != std::string::npos;
    return with_block(old ? std::string_view(*old) : k_shebang, (ours ? std::string(k_made) : std::string()) + std::string(k_block), BlockPlace::after_shebang);
}

Result<std::optional<std::string>> without_hook(std::string_view text) {
    auto rest = with_block(text, "", BlockPlace::after_shebang);
    if (!rest) { return rest.error(); }
    const bool ours = text.find(k_made) != std::string_view::npos;
    if (ours && (rest->empty() || *rest == k_shebang)) { return std::optional<std::string>(); }
    return std::optional<std::string>(std::move(*rest));
}

HookPlace hook_place(std::string directory, bool generated) {
    const bool husky = directory.ends_with("/_") && (generated || directory.ends_with("/.husky/_"));
    if (husky) { directory.resize(directory.size() - 2); }
    return {directory + "/post-checkout", husky};
}

}  // namespace portwrap
