// ports.json.
#include <cstdint>

#include "fuzz.hpp"
#include "storage/snapshot.hpp"

using namespace portwrap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto text = fuzz::with_snapshot_checksum({reinterpret_cast<const char*>(data), size});
    const auto snapshot = decode_snapshot(text);
    if (!snapshot) { return 0; }
    const auto again = decode_snapshot(encode_snapshot(snapshot->registry, snapshot->machine, Time{}, "[]"));
    fuzz::promise(again.has_value(), "a registry that was read can be written and read");
    fuzz::promise(again->registry == snapshot->registry && again->machine == snapshot->machine, "and is the same");
    fuzz::promise(again->registry.last_seq() == snapshot->registry.last_seq(), "with its sequence number");
    return 0;
}
