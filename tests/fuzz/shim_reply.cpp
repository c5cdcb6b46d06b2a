// The shim's reader of the agent's replies, in a buffer that ends where the reply ends.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "fuzz.hpp"
#include "portwrap/shim_frame.hpp"

using namespace portwrap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto line = std::make_unique<char[]>(size);
    std::memcpy(line.get(), data, size);
    shim_frame::Reply reply;
    for (const std::uint32_t asked : {0U, 3000U}) {
        if (shim_frame::read_port_reply(line.get(), size, 1, asked, reply) == shim_frame::ReplyKind::result) {
            fuzz::promise(reply.port <= 65535 && (asked == 0 || reply.port != 0), "a port is a port");
        }
    }
    if (shim_frame::read_table_reply(line.get(), size, 1, reply) == shim_frame::ReplyKind::result) {
        fuzz::promise(reply.connect <= 1, "connect is a flag");
    }
    if (shim_frame::read_notice_reply(line.get(), size, 1, reply) == shim_frame::ReplyKind::result) {
        const auto notice = std::make_unique<char[]>(reply.notice_size);
        const auto written = shim_frame::copy_notice(reply, notice.get());
        fuzz::promise(written <= reply.notice_size, "a notice does not grow");
        fuzz::promise(fuzz::is_showable(std::string_view(notice.get(), written)), "a notice can be shown");
    }
    shim_frame::Session session;
    (void)shim_frame::read_session(line.get(), size, session);
    return 0;
}
