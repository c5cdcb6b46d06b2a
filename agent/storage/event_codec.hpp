// Events and registry records as JSON, for the journal and the snapshot. Strict readers: kinds and ranges are checked,
// nothing is coerced.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "core/events.hpp"
#include "portwrap/result.hpp"

namespace portwrap {

/// One journal line without its newline: a JSON object with "seq", "at", "event", the record, and as its last member
/// "crc", the CRC-32 (IEEE 802.3) of all bytes before it, as 8 hex digits.
[[nodiscard]] std::string encode_event(const Event& event);
[[nodiscard]] Result<Event> decode_event(std::string_view line);

[[nodiscard]] nlohmann::json lease_record(const Lease& lease);
[[nodiscard]] Result<Lease> lease_from_record(const nlohmann::json& record);

/// RFC 3339 in UTC with milliseconds: "2026-11-21T09:10:00.123Z".
[[nodiscard]] std::string format_time(Time time);
[[nodiscard]] Result<Time> parse_time(std::string_view text);

}  // namespace portwrap
