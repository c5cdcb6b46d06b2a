// Files of leases, ours and those of other tools. The first line of an input names the format; anything else there lets the
// text tell by itself.
#include <cstdint>
#include <memory>

#include "core/import_rules.hpp"
#include "fuzz.hpp"
#include "service/exchange/read_rows.hpp"
#include "service/exchange/write_text.hpp"

using namespace portwrap;

namespace {

constexpr Time k_now{std::chrono::seconds(1'800'000'000)};

Facts quiet_facts() {
    Facts facts;
    facts.now = k_now;
    facts.boot_id = "boot";
    facts.user_at_host = "me@host";
    facts.in_use = [](Port, bool, bool) { return false; };
    return facts;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const auto newline = input.find('\n');
    const auto format = from_word<ImportFormat>(input.substr(0, newline));
    const auto text = newline == std::string_view::npos ? std::string_view() : input.substr(newline + 1);
    auto read = read_rows(text, format);
    if (!read) {
        fuzz::promise(!read.error().message.empty() && fuzz::is_showable(read.error().message), "an error can be shown");
        return 0;
    }
    for (const auto& row : read->refused) { fuzz::promise(!row.reason.empty() && fuzz::is_showable(row.reason), "a reason can be shown"); }
    for (auto& row : read->rows) {
        fuzz::promise(row.port != 0 && row.requested != Port{0}, "a port is a port");
        fuzz::promise(!row.service.empty() && fuzz::is_showable(row.service), "a service's name can be shown");
        fuzz::promise(row.directory.empty() || row.directory[0] == '/', "a directory is absolute");
        fuzz::promise(fuzz::is_showable(row.description.value_or("")) && fuzz::is_showable(row.hostname.value_or("")) &&
                          fuzz::is_showable(row.allocated_by), "what people wrote can be shown");
        fuzz::promise(row.state != LeaseState::released, "what was given back is refused");
        const std::string root = row.directory.empty() ? "/home/me/shop" : row.directory;
        row.project = std::make_shared<const Project>(Project{root, "shop", std::nullopt, std::nullopt, "", ""});
    }
    static const auto config = default_config();
    Registry registry;
    auto decision = decide_import(registry, config, read->rows, read->refused, false, quiet_facts());
    for (const auto& event : registry.stamp(std::move(decision.changes), k_now)) { registry.apply(event); }
    std::vector<const Lease*> leases;
    for (const auto& [id, lease] : registry.leases()) {
        leases.push_back(&lease);
        for (const auto* other : registry.on_port(lease.port)) {
            fuzz::promise(other == &lease || !other->live() || !lease.live() || other->key.protocol != lease.key.protocol, "no port is held twice");
        }
    }
    // What is written of no lease is the same each time; most inputs have none, and are tried twice as fast without it.
    if (leases.empty()) { return 0; }
    for (const auto written : {ExportFormat::json, ExportFormat::csv, ExportFormat::markdown, ExportFormat::env, ExportFormat::compose}) {
        const auto exported = write_text(written, registry, config, leases, k_now);
        // An env file has no room for instances and names that read alike; compose files are not read.
        if (written == ExportFormat::env || written == ExportFormat::compose) { continue; }
        const auto again = read_rows(exported, from_word<ImportFormat>(word(written)));
        fuzz::promise(again.has_value(), "what was written can be read");
        fuzz::promise(again->refused.empty() && again->rows.size() == leases.size(), "every lease of it");
        for (const auto& row : again->rows) {
            const auto* lease = leases[static_cast<std::size_t>(&row - again->rows.data())];
            fuzz::promise(row.port == lease->port && row.service == lease->key.service, "as it is");
        }
    }
    return 0;
}
