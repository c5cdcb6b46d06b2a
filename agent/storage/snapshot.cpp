// Writes the snapshot by hand for its layout, reads it where it stands with the strict record readers.
#include "storage/snapshot.hpp"

#include <utility>

#include "storage/crc32.hpp"
#include "storage/event_codec.hpp"
#include "storage/json_text.hpp"

namespace portwrap {
namespace {

constexpr int k_depth = 16;
constexpr std::uint64_t k_largest_number = std::uint64_t{1} << 53U;
constexpr std::string_view k_crc_name = "\"crc\": \"";
constexpr std::string_view k_end = "\"\n}\n";

template <typename Map>
void append_all(std::string& out, std::string_view name, const Map& records) {
    out += "  \"";
    out += name;
    out += "\": [";
    bool first = true;
    for (const auto& entry : records) {
        out += first ? "\n    " : ",\n    ";
        first = false;
        append_record(out, entry.second);
    }
    out += first ? "],\n" : "\n  ],\n";
}

Error damaged(const std::string& what) { return Error{ErrorCode::storage_error, "damaged: " + what}; }

bool checksum_is_right(std::string_view text) {
    const auto tail_size = k_crc_name.size() + 8 + k_end.size();
    if (text.size() < tail_size) { return false; }
    const auto before = text.substr(0, text.size() - tail_size);
    const auto tail = text.substr(before.size());
    return tail.substr(0, k_crc_name.size()) == k_crc_name && tail.substr(k_crc_name.size() + 8) == k_end &&
           tail.substr(k_crc_name.size(), 8) == crc32_text(before);
}

}  // namespace

std::string encode_snapshot(const Registry& registry, const std::string& machine, Time now,
                            const std::string& ranges_json) {
    std::size_t live = 0;
    for (const auto& entry : registry.leases()) { live += entry.second.live() ? 1U : 0U; }
    const auto ranges = JsonText::parse(ranges_json, k_depth - 2);

    std::string out;
    out.reserve(1024 + 1024 * registry.leases().size());
    out += "{\n  \"schema_version\": " + std::to_string(k_schema_version) + ",\n  \"machine\": ";
    append_json_string(out, machine);
    out += ",\n  \"last_updated\": \"" + format_time(now) + "\",\n";
    out += "  \"last_seq\": " + std::to_string(registry.last_seq()) + ",\n";
    out += "  \"next_lease_id\": " + std::to_string(registry.next_lease_id()) + ",\n";
    out += "  \"totals\": {\"leases\":" + std::to_string(registry.leases().size()) +
           ",\"live\":" + std::to_string(live) + ",\"projects\":" + std::to_string(registry.projects().size()) +
           ",\"sessions\":" + std::to_string(registry.sessions().size()) + "},\n";
    out += "  \"ranges\": ";
    out += ranges && ranges->root().is_array() ? ranges_json : "[]";
    out += ",\n";
    append_all(out, "projects", registry.projects());
    append_all(out, "sessions", registry.sessions());
    append_all(out, "leases", registry.leases());
    out += "  ";
    const auto crc = crc32_text(out);
    out += k_crc_name;
    out += crc;
    out += k_end;
    return out;
}

Result<Snapshot> decode_snapshot(std::string_view text) {
    const auto parsed = JsonText::parse(text, k_depth);
    if (!parsed) { return damaged(parsed.error().message); }
    if (!parsed->root().is_object()) { return damaged("not an object"); }
    JsonMembers members(parsed->root());

    // Before the version, which may be what is damaged: every version has the checksum where this one has it.
    if (members.find("crc").exists() && !checksum_is_right(text)) { return damaged("the checksum is not right"); }
    const auto version = members.find("schema_version").unsigned_number();
    if (!version || *version == 0) { return damaged("schema_version"); }
    if (*version > static_cast<std::uint64_t>(k_schema_version)) {
        return Error{ErrorCode::version_mismatch, "schema_version " + std::to_string(*version) +
                                                      " is newer than this portwrap's " +
                                                      std::to_string(k_schema_version)};
    }

    auto machine = members.find("machine").text();
    const auto last_seq = members.find("last_seq").unsigned_number();
    const auto next_id = members.find("next_lease_id").unsigned_number();
    const auto projects = members.find("projects");
    const auto sessions = members.find("sessions");
    const auto leases = members.find("leases");
    if (!machine || !last_seq || !next_id || !projects.is_array() || !sessions.is_array() || !leases.is_array() ||
        *last_seq > k_largest_number || *next_id > k_largest_number) {
        return damaged("a member is missing or wrong");
    }

    Snapshot snapshot;
    snapshot.machine = std::move(*machine);
    std::uint64_t seq = 0;
    const auto add = [&](Change change) { snapshot.registry.apply(Event{++seq, Time{}, std::move(change)}); };
    for (auto record = projects.first(); record.exists(); record = record.next()) {
        auto project = project_from_record(record);
        if (!project) { return damaged("a project: " + project.error().message); }
        add(ProjectSeen{std::move(*project)});
    }
    for (auto record = sessions.first(); record.exists(); record = record.next()) {
        auto session = session_from_record(record);
        if (!session) { return damaged("a session: " + session.error().message); }
        add(SessionOpened{std::move(*session)});
    }
    for (auto record = leases.first(); record.exists(); record = record.next()) {
        auto lease = lease_from_record(record);
        if (!lease) { return damaged("a lease: " + lease.error().message); }
        if (snapshot.registry.find(lease->id) != nullptr) { return damaged("two leases with one id"); }
        add(LeaseEvent{LeaseChange::updated, std::move(*lease)});
    }
    snapshot.registry.resume_at(*last_seq, *next_id);
    return Result<Snapshot>(std::move(snapshot));
}

}  // namespace portwrap
