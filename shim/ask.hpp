// The exchange with the agent over its Unix socket: connect, ask, wait with a deadline, close. Nothing here fails a
// program: whatever goes wrong, the caller fails open, that is, does what the program asked as without portwrap.
#pragma once

#include <cstddef>
#include <cstdint>

#include "environment.hpp"
#include "portwrap/shim_frame.hpp"

namespace portwrap::shim {

/// What is to be bound. Lease 0: the agent has no part in it.
struct Grant {
    std::uint64_t lease = 0;
    std::uint16_t port = 0;
    bool shows_requested = false;  ///< getsockname is to say what was asked for
};

/// Which table this process's connections are looked up in. Name 0: none.
struct TableAnswer {
    std::uint64_t name = 0;
    bool connect = false;
};

/// How long an exchange may take, and whether a failure is remembered for ten seconds.
enum class Patience : std::uint8_t {
    full,   ///< five seconds
    brief,  ///< 200 ms, for what is only said; nothing is remembered
};

/// No such process in the caller's pid namespace.
[[nodiscard]] bool is_gone(int pid) noexcept;
/// Of a process that is there: a zombie, or stopped; false where nothing can be known.
[[nodiscard]] bool is_stopped(int pid) noexcept;

/// One connection, closed when the object goes. Uses no errno; neither blocks nor raises a signal beyond its deadline,
/// which holds for all that is asked on the connection together.
class Exchange {
public:
    explicit Exchange(const Environment& environment, Patience patience = Patience::full) noexcept
        : m_environment(environment), m_patience(patience) {}
    Exchange(const Exchange&) = delete;
    Exchange& operator=(const Exchange&) = delete;
    ~Exchange() { close(); }

    /// False: fail open. Does not try within ten seconds of a failure of this process.
    [[nodiscard]] bool open() noexcept;
    void close() noexcept;

    /// False: fail open.
    [[nodiscard]] bool ask_bind(const shim_frame::BindRequest& request, Grant& grant) noexcept;
    [[nodiscard]] bool ask_failed(const shim_frame::FailedRequest& request, std::uint16_t asked, Grant& grant) noexcept;

    /// One way: nobody waits for the agent.
    void tell_bound(const shim_frame::BoundNotification& bound) noexcept;

    /// The notice without its escapes, in `line`; 0 bytes if there is none.
    [[nodiscard]] std::size_t ask_listening(const shim_frame::ListeningRequest& request,
                                            char (&line)[shim_frame::k_max_reply]) noexcept;

    [[nodiscard]] std::size_t ask_refused(const shim_frame::RefusedRequest& request,
                                          char (&line)[shim_frame::k_max_reply]) noexcept;

    /// False: nothing is known.
    [[nodiscard]] bool ask_table(const shim_frame::Session& session, TableAnswer& answer) noexcept;

private:
    [[nodiscard]] bool connect() noexcept;
    [[nodiscard]] std::size_t ask_notice(const char* request, std::size_t request_size,
                                         char (&line)[shim_frame::k_max_reply]) noexcept;
    [[nodiscard]] bool send(const char* request, std::size_t size) noexcept;
    [[nodiscard]] bool receive(char (&line)[shim_frame::k_max_reply], std::size_t& size) noexcept;
    [[nodiscard]] bool exchange(const char* request, std::size_t request_size, char (&line)[shim_frame::k_max_reply],
                                std::size_t& size) noexcept;
    [[nodiscard]] bool take_grant(const char* line, std::size_t size, std::uint32_t id, std::uint16_t asked,
                                  Grant& grant) noexcept;
    [[nodiscard]] bool may_wait_on() noexcept;
    bool give_up() noexcept;

    const Environment& m_environment;
    Patience m_patience;
    int m_fd = -1;
    int m_agent = 0;             ///< the peer's pid once connected
    std::int64_t m_began = 0;    ///< milliseconds of CLOCK_MONOTONIC
    std::int64_t m_looked = 0;   ///< at the agent's state, or m_began
};

}  // namespace portwrap::shim
