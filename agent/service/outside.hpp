// What the service needs of the event loop, and nothing more: so that the service knows no libuv and tests can be the loop.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/types.hpp"

namespace portwrap {

class Outside {
public:
    virtual ~Outside() = default;
    [[nodiscard]] virtual Time now() = 0;
    /// `work` runs on a pool thread, `done` afterwards on the loop's thread.
    virtual void run_in_pool(std::function<void()> work, std::function<void()> done) = 0;
    /// Calls `then` once after this time, unless the returned function was called before. For deadlines, not for polling.
    [[nodiscard]] virtual std::function<void()> call_after(std::chrono::milliseconds delay, std::function<void()> then) = 0;
    /// Calls Agent::on_timer at this time; replaces an earlier wish.
    virtual void wake_at(Time time) = 0;
    /// Calls Agent::on_process_ended once this process is gone (at once when it is gone already).
    virtual void watch_process(const ProcessId& process) = 0;
    /// Joins or leaves the kernel's socket-destroy notifications: while anybody is subscribed, every close of a TCP
    /// socket on the machine costs some microseconds. True when they come; then Agent::on_sockets_destroyed is called.
    virtual bool watch_sockets(bool on) = 0;
    /// Calls `then` whenever this descriptor can be read, as long as the loop runs; the descriptor must live as long.
    virtual void watch_descriptor(int fd, std::function<void()> then) = 0;
    /// Calls `then` with the name of what was made, deleted or replaced in this directory, or with the directory's own. Asked again for
    /// the same path, it watches what is there by now. False where the kernel has no watch left, or there is no such directory.
    virtual bool watch_directory(const std::string& path, std::function<void(std::string_view name)> then) = 0;
    /// Ends the loop after the replies have been written.
    virtual void stop() = 0;
};

/// The other end of a connection.
struct Peer {
    pid_t pid = 0;  ///< 0: not visible from here (another pid namespace)
};

/// A reply as a line without its newline (empty: no reply), and whether the connection ends after it.
struct Reply {
    std::string line;
    bool close = false;
    bool more = false;  ///< further lines follow: the connection stays with this request
};
using ReplyTo = std::function<void(Reply)>;

/// What the service remembers of one connection. Only the service looks inside.
struct Exchange;

}  // namespace portwrap
