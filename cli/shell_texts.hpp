// The texts of shell/, which are part of the program.
#pragma once

#include <string>
#include <string_view>

namespace portwrap {

/// By the file's name; empty when there is none.
[[nodiscard]] std::string_view shell_text(const std::string& name);

}  // namespace portwrap
