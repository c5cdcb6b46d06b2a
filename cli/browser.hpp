// Opening an address in the user's browser.
#pragma once

#include <string>

#include "portwrap/result.hpp"

namespace portwrap {

/// $BROWSER (as xdg-open reads it: commands separated by colons, %s for the address), else xdg-open. The program runs on by
/// itself; an error when none could be started.
Status open_browser(const std::string& address);

}  // namespace portwrap
