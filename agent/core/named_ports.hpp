// Ports that are named in the values of a project's .env files, as http://localhost:4000 is: browser code has no other way
// to reach a service, and nothing can rewrite it there. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.hpp"

namespace portwrap {

/// One assignment of a file; `file` is its name without the directory.
struct EnvValue {
    std::string file;
    std::string name;
    std::string value;
    bool named = false;  ///< the file is named on the command line: whatever runs has the variable
    bool operator==(const EnvValue&) const = default;
};

struct NamedPort {
    Port from = 0;
    Port to = 0;
    std::string value;  ///< the whole value with every moved port replaced
};

/// The moved ports that a value names: after a loopback host (localhost:4000, 127.0.0.1:4000, [::1]:4000), or as the whole
/// value of a variable whose name says that browser code reads it and that it is a port (VITE_API_PORT=4000).
/// `moved` leads from requested to assigned ports. None when it names none of them.
[[nodiscard]] std::optional<NamedPort> named_moved_port(const EnvValue& entry, const std::map<Port, Port>& moved);

}  // namespace portwrap
