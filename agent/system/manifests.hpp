// Package manifests: which files mark a package, the language that each stands for, and the names inside them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace portwrap {

struct Manifest {
    std::string path;
    std::string_view type;  ///< "node", "python", ...
};

/// The manifest that counts in a directory (package.json before index.html, and so on).
[[nodiscard]] std::optional<Manifest> find_manifest(const std::string& directory);
/// The package's name as the manifest says it, printable; empty when it says none.
[[nodiscard]] std::string manifest_name(const Manifest& manifest);
/// The string at a path of keys in a JSON text with comments; empty when the text is bad or has none there.
[[nodiscard]] std::string json_string_at(std::string_view text, const std::vector<std::string_view>& path);
/// Does a JSON object have a member of this name at its top, other than null?
[[nodiscard]] bool has_json_member(std::string_view text, std::string_view name);
/// Equal for byte-identical manifests: 16 hex digits; empty for one that is empty, too large or unreadable.
[[nodiscard]] std::string manifest_hash(const Manifest& manifest);

}  // namespace portwrap
