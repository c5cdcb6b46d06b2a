// Lines of the journal.
#include <cstdint>

#include "fuzz.hpp"
#include "storage/event_codec.hpp"
#include "storage/recovery.hpp"

using namespace portwrap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto text = fuzz::with_line_checksums({reinterpret_cast<const char*>(data), size});
    const auto journal = read_journal(text);
    fuzz::promise(read_journal(journal.good).events == journal.events, "the good lines alone are the same journal");
    Registry registry;
    std::string written;
    for (const auto& event : journal.events) {
        const auto line = encode_event(event);
        const auto again = decode_event(line);
        fuzz::promise(again && *again == event, "an event that was read is written and read the same");
        registry.apply(event);
        registry.apply(event);
    }
    return 0;
}
