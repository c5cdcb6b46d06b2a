#include "core/segment.hpp"

#include <algorithm>
#include <bitset>
#include <tuple>

#include "core/ranges.hpp"

namespace portwrap {

std::string prompt_segment(const std::vector<const Lease*>& leases) {
    constexpr std::size_t k_shown = 3;
    std::vector<std::tuple<bool, bool, Port>> ports;  // silent, auxiliary, number: sorted as they are shown
    for (const auto* lease : leases) {
        if (!lease->live()) { continue; }
        ports.emplace_back(lease->state != LeaseState::active, is_auxiliary_service(lease->key.service), lease->port);
    }
    std::sort(ports.begin(), ports.end());
    // TCP and UDP of one number are one port to whoever looks at the prompt.
    std::vector<std::tuple<bool, bool, Port>> shown;
    std::bitset<65536> seen;
    for (const auto& port : ports) {
        const auto number = std::get<Port>(port);
        if (!seen.test(number)) { shown.push_back(port); }
        seen.set(number);
    }
    const auto more = shown.size() > k_shown ? shown.size() - 1 : 0;
    if (more > 0) { shown.resize(1); }
    std::string text;
    for (const auto& [silent, auxiliary, number] : shown) {
        if (!text.empty()) { text += ' '; }
        text += (silent ? "~:" : ":") + std::to_string(number);
    }
    if (more > 0) { text += " +" + std::to_string(more); }
    return text;
}

}  // namespace portwrap
