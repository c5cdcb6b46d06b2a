// ports.json: the whole registry in one file that people can read, one record a line. Its last member is the CRC-32 of
// all bytes before it; a file without that member (somebody edited it) is good when every field is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/registry.hpp"
#include "portwrap/result.hpp"

namespace portwrap {

inline constexpr int k_schema_version = 1;

/// `ranges_json` is shown to people only: a JSON array, or it is written as [].
[[nodiscard]] std::string encode_snapshot(const Registry& registry, const std::string& machine, Time now,
                                          const std::string& ranges_json);

struct Snapshot {
    Registry registry;
    std::string machine;
};
/// VERSION_MISMATCH for a newer schema, whatever else is in the file; STORAGE_ERROR for a damaged one.
[[nodiscard]] Result<Snapshot> decode_snapshot(std::string_view text);

}  // namespace portwrap
