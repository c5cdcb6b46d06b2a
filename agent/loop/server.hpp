// The event loop: connections, lines, timers, the pool, process watching. libuv stops here.
#pragma once

#include <uv.h>

#include <array>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "portwrap/result.hpp"
#include "portwrap/unique_fd.hpp"
#include "service/agent.hpp"
#include "system/listeners.hpp"

namespace spdlog {
class logger;
}

namespace portwrap {

/// A libuv handle that is closed with its owner and freed in its close callback.
template <typename Handle>
struct CloseHandle {
    void operator()(Handle* handle) const noexcept {
        handle->data = nullptr;
        uv_close(reinterpret_cast<uv_handle_t*>(handle), [](uv_handle_t* closed) noexcept { delete reinterpret_cast<Handle*>(closed); });
    }
};
template <typename Handle>
using HandlePtr = std::unique_ptr<Handle, CloseHandle<Handle>>;

class Server : public Outside {
public:
    struct Limits {
        std::size_t connections = 4096;              ///< or fewer, where the process may not have so many descriptors
        std::size_t connections_always = 16;
        std::size_t connections_of_one = 16;         ///< that a process keeps although others find no room
        std::size_t spare_descriptors = 128;         ///< kept for the agent's own files
        std::size_t queued_bytes = 4 * 1024 * 1024;  ///< of replies that a peer does not read, besides the last: then it is dropped
        std::size_t queued_stream = 256 * 1024;      ///< the same for a stream of events
        std::size_t all_queued_bytes = 8 * 1024 * 1024;  ///< of all peers together: then who has read nothing for longest is dropped
        std::size_t unread = 16 * 1024;              ///< bytes of replies: no more of this peer is decided until it has read
        std::size_t all_input = 4 * 1024 * 1024;     ///< of all connections together: then the oldest half message is refused
        std::uint64_t half_message_ms = 10'000;      ///< for the end of a message that has begun
        std::size_t queued_input = 64 * 1024;        ///< bytes of one connection's undecided lines: then its reading pauses
        int lines_a_turn = 8;                        ///< of one connection that are decided in one turn of the loop,
        std::uint64_t ns_a_turn = 1'000'000;         ///< or as many as take this long; the others are decided in between
        std::uint64_t ns_of_all_a_turn = 8'000'000;  ///< of all connections, before the loop looks who else is there
        std::uint64_t room_ms = 20;                  ///< between two looks whether the agent has room for more requests again
        std::uint64_t roll_call_ms = 1000;           ///< between two looks whose peers are gone, while there is no room
        std::uint64_t warning_ms = 10'000;           ///< between two lines of one sort in the log that peers can cause
        std::uint64_t farewell_ms = 2000;            ///< for peers that do not read their replies when the agent stops
    };

    explicit Server(spdlog::logger& log);
    ~Server() override;

    /// Takes over a bound Unix socket. Removes its file on close if it `owns_file` and the file is still this one.
    [[nodiscard]] Status listen(UniqueFd socket, std::string path, bool owns_file);
    /// The agent must live until run() has returned.
    void serve(Agent& agent) { m_agent = &agent; }
    /// Callable from any thread: Agent::on_synced follows on the loop.
    void notify_synced();
    /// Until stop(); closes the agent. True when the loop was left with every handle closed; false when a job of the pool
    /// or a peer hangs, and then the process must end by _exit: libuv would wait for its pool.
    [[nodiscard]] bool run();
    /// Why the loop ended: somebody has deleted the socket's file or its directory, so that no client finds this agent.
    [[nodiscard]] bool lost_its_socket() const { return m_lost_socket; }
    /// Why the loop ended: SIGUSR2 asked for the program's next version in this process. This is the socket, which still
    /// listens, so that whoever connects meanwhile waits for that; invalid when it ended for another reason.
    [[nodiscard]] UniqueFd take_kept_socket() { return std::move(m_kept_socket); }

    [[nodiscard]] Time now() override;
    void run_in_pool(std::function<void()> work, std::function<void()> done) override;
    [[nodiscard]] std::function<void()> call_after(std::chrono::milliseconds delay, std::function<void()> then) override;
    void wake_at(Time time) override;
    void watch_process(const ProcessId& process) override;
    bool watch_sockets(bool on) override;
    void watch_descriptor(int fd, std::function<void()> then) override;
    bool watch_directory(const std::string& path, std::function<void(std::string_view name)> then) override;
    void stop() override;

private:
    struct Connection;
    struct ProcessWatch;
    struct Deadline;
    struct DescriptorWatch;
    struct DirectoryWatch;

    bool keep_spare();
    void spend_descriptor();
    void accept();
    /// One connection more cannot be had without taking the descriptors that the agent's own work needs.
    [[nodiscard]] bool is_crowded() const;
    /// Ends the connection that has been idle longest, or those whose peers are gone, or one of the process that has by far too
    /// many. False when all have something under way, and nobody has many, or more than the newcomer. A newcomer that cannot be accepted yet is 0.
    [[nodiscard]] bool make_room(pid_t newcomer);
    void drop(Connection& connection);
    /// Again after each pause, with the callbacks: uv_read_stop forgets them.
    void start_reading(Connection& connection);
    void on_end_of_input(Connection& connection, bool reset);
    /// Says why and closes, after the replies that are still due.
    void turn_away(Connection& connection, std::string why);
    /// Keeps the sum of what all connections hold.
    void account(Connection& connection);
    void bound_input();
    void bound_replies();
    void end_half_messages();
    void arm_half_messages(std::uint64_t delay_ms);
    void on_bytes(Connection& connection, std::string_view bytes);
    void next_line(const std::shared_ptr<Connection>& connection);
    /// What its lines may take of this turn is used up: they go on in the next one.
    [[nodiscard]] bool has_had_its_turn(Connection& connection) const;
    void wait_for_turn(const std::shared_ptr<Connection>& connection);
    /// The same where the agent has no room for its next line (Agent::has_room_for).
    void wait_for_room(const std::shared_ptr<Connection>& connection);
    void serve_waiting();
    void write(const std::shared_ptr<Connection>& connection, Reply reply);
    /// Hands the kernel what it takes of the replies, and asks to be told when it takes more. False when the peer is gone.
    [[nodiscard]] bool flush(const std::shared_ptr<Connection>& connection);
    /// What peers can cause as often as they like must not fill the log.
    struct Rare {
        std::uint64_t next_at = 0;  ///< the loop's time in ms
        std::size_t left_out = 0;
    };
    void warn_rarely(Rare& rare, const std::string& text);
    void on_signal(int signal);
    void watch_socket_file();
    [[nodiscard]] bool socket_file_is_ours() const;
    void leave_when_idle();

    spdlog::logger& m_log;
    Agent* m_agent = nullptr;
    uv_loop_t m_loop{};
    HandlePtr<uv_pipe_t> m_listener;
    HandlePtr<uv_timer_t> m_timer;
    HandlePtr<uv_timer_t> m_farewell;
    std::array<char, 65536> m_buffer{};  ///< of all connections: what is read is copied at once
    HandlePtr<uv_async_t> m_synced;
    HandlePtr<uv_prepare_t> m_before_waiting;  ///< at the end of each turn, after its replies
    HandlePtr<uv_idle_t> m_between_turns;      ///< runs only while somebody waits for a turn
    HandlePtr<uv_poll_t> m_destroyed;
    std::vector<HandlePtr<uv_signal_t>> m_signals;
    std::optional<DestroyWatch> m_watch;
    std::map<Connection*, std::shared_ptr<Connection>> m_connections;
    std::map<ProcessId, std::unique_ptr<ProcessWatch>> m_processes;
    std::map<std::uint64_t, std::unique_ptr<Deadline>> m_deadlines;
    std::vector<std::unique_ptr<DescriptorWatch>> m_descriptors;
    std::map<std::string, std::unique_ptr<DirectoryWatch>> m_directories;
    std::uint64_t m_next_deadline = 0;
    HandlePtr<uv_timer_t> m_half_messages;  ///< runs only while there is one
    std::size_t m_input = 0;                ///< bytes that all connections have sent and that were not decided yet
    std::size_t m_unwritten = 0;            ///< memory of replies that wait for their readers
    std::deque<std::weak_ptr<Connection>> m_waiting;  ///< for a turn, in this order
    std::vector<std::weak_ptr<Connection>> m_without_room;  ///< the agent has too much to keep in mind for their next line
    std::uint64_t m_turn = 0;               ///< of the loop
    std::list<Connection*> m_by_use;        ///< all of them, the one whose last bytes came first in front
    std::uint64_t m_next_roll_call = 0;     ///< the loop's time in ms when the peers are asked again whether they are there
    std::size_t m_descriptors_allowed = 0;  ///< RLIMIT_NOFILE
    Rare m_refused, m_made_room, m_slow_readers;
    UniqueFd m_spare;  ///< with which one more connection can be accepted and told that there is no room
    std::string m_socket_path;
    ino_t m_socket_inode = 0;
    HandlePtr<uv_fs_event_t> m_socket_events;  ///< of the socket's directory
    bool m_owns_file = false;
    bool m_lost_socket = false;
    UniqueFd m_kept_socket;
    bool m_stopping = false;
    bool m_left = false;  ///< run() has left the loop for good
    bool m_clean = false;
};

}  // namespace portwrap
