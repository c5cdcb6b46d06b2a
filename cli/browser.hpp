// Opening an address in the user's browser.
#pragma once

#include <string>
#include <vector>

#include "portwrap/result.hpp"

namespace portwrap {

/// Starts a program that outlives us: nobody's child, in a session of its own, its descriptors 0 to 2 on /dev/null. 0, or the
/// errno of what failed.
[[nodiscard]] int run_detached(const std::vector<std::string>& command);

/// $BROWSER (as xdg-open reads it: commands separated by colons, %s for the address), else xdg-open. The program runs on by
/// itself; an error when none could be started.
Status open_browser(const std::string& address);

}  // namespace portwrap
