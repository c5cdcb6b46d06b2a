// The texts of shell/, which are part of the program, and how text is handed to shells.
#pragma once

#include <string>
#include <string_view>

namespace portwrap {

/// By the file's name; empty when there is none.
[[nodiscard]] std::string_view shell_text(const std::string& name);

/// In single quotes, as the shells read it. fish knows escapes inside them.
[[nodiscard]] std::string shell_quoted(std::string_view text, bool fish = false);

/// A text of zsh's that is evaluated at once, so that the user's aliases mean nothing in it: zsh would replace them when it
/// reads the text, before any line of it can say otherwise. (bash reads line by line; its texts see to it themselves.)
[[nodiscard]] std::string for_zsh(std::string_view text);

}  // namespace portwrap
