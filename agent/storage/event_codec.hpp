// Events and registry records as JSON, for the journal and the snapshot. Strict readers: kinds and ranges are checked,
// nothing is coerced. A string that is not UTF-8 (Linux paths are bytes) is written as {"hex":"2f68ff"}, so that
// nothing is lost and no reader chokes.
#pragma once

#include <string>
#include <string_view>

#include "core/events.hpp"
#include "portwrap/result.hpp"
#include "storage/json_text.hpp"

namespace portwrap {

/// One journal line without its newline: a JSON object with "seq", "at", "event", the record, and as its last member
/// "crc", the CRC-32 (IEEE 802.3) of all bytes before that member's name, as 8 hex digits.
[[nodiscard]] std::string encode_event(const Event& event);
/// STORAGE_ERROR for a line that is damaged; VERSION_MISMATCH for a whole one with a "v" that is newer than ours.
[[nodiscard]] Result<Event> decode_event(std::string_view line);

/// One record as one line of JSON, without a newline.
void append_record(std::string& out, const Lease& lease);
void append_record(std::string& out, const Project& project);
void append_record(std::string& out, const Session& session);
/// A JSON string (or the hex form, see above).
void append_json_string(std::string& out, std::string_view text);

[[nodiscard]] Result<Lease> lease_from_record(const JsonValue& record);
[[nodiscard]] Result<Project> project_from_record(const JsonValue& record);
[[nodiscard]] Result<Session> session_from_record(const JsonValue& record);

/// RFC 3339 in UTC with milliseconds: "2026-11-21T09:10:00.123Z".
/// Years 0000 to 9999; what lies outside is moved to the nearest.
[[nodiscard]] std::string format_time(Time time);
[[nodiscard]] Result<Time> parse_time(std::string_view text);

}  // namespace portwrap
