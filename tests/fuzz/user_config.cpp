// The user's config.json, and the environment variables of other tools: the lines before the first "%%".
#include <cstdint>

#include "fuzz.hpp"
#include "system/user_config.hpp"

using namespace portwrap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto parts = fuzz::parts_of({reinterpret_cast<const char*>(data), size});
    ConfigVariables variables;
    if (parts.size() > 1) {
        std::string_view text = parts[0];
        while (!text.empty()) {
            const auto line = text.substr(0, text.find('\n'));
            text.remove_prefix(std::min(text.size(), line.size() + 1));
            const auto equals = line.find('=');
            if (equals != std::string_view::npos) { variables.emplace(line.substr(0, equals), line.substr(equals + 1)); }
        }
    }
    const auto read = parse_user_config(std::string(parts.back()), "config.json", variables, PortInterval{32768, 60999});
    if (!read) {
        fuzz::promise(!read.error().message.empty() && fuzz::is_showable(read.error().message), "an error can be shown");
        return 0;
    }
    for (const auto& warning : read->warnings) { fuzz::promise(!warning.empty() && fuzz::is_showable(warning), "a warning can be shown"); }
    for (const auto& range : read->config.ranges) {
        fuzz::promise(!range.name.empty() && fuzz::is_showable(range.name), "a range's name can be shown");
        fuzz::promise(!range.intervals.empty(), "a range has ports");
        for (const auto& interval : range.intervals) { fuzz::promise(interval.start >= 1 && interval.start <= interval.end, "an interval is one"); }
    }
    return 0;
}
