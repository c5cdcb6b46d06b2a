// What a shell prompt shows of a project: a function of the registry and nothing else.
#pragma once

#include <string>
#include <vector>

#include "core/registry.hpp"

namespace portwrap {

/// Active ports as ":3001", assigned but silent ones as "~:3001", separated by a blank, in the order in which a person
/// means them: listening before silent, auxiliary services last, then by number. Of more than three the first one and
/// how many more there are: ":3001 +4". Empty when there is nothing to show. No other character ever occurs.
[[nodiscard]] std::string prompt_segment(const std::vector<const Lease*>& leases);

}  // namespace portwrap
