// The client's side of docs/protocol.md: finds the agent's socket, starts the agent where none runs, and exchanges one
// line for one line without ever waiting for an agent that cannot answer. Single-threaded; raises no SIGPIPE; descriptors
// are close-on-exec and above 2, so that a program with closed standard streams does not write messages to the agent.
#pragma once

#include <sys/types.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "portwrap/result.hpp"
#include "portwrap/unique_fd.hpp"

namespace portwrap {

/// Ordered, so that `--json` prints fields in the documented order.
using Json = nlohmann::ordered_json;

/// A moment of CLOCK_MONOTONIC.
class Deadline {
public:
    static Deadline in_milliseconds(int milliseconds);
    /// Milliseconds that are left, 0 when it has passed.
    [[nodiscard]] int left() const;

private:
    long long m_at_ms = 0;
};

/// What the agent answered: a result, or a refusal as `portctl --json` shows it: code, message, details, suggestions.
struct Reply {
    bool ok = false;
    Json body;
};

/// Puts what an agent may leave out of a refusal into place.
Json refusal_object(std::string_view code, std::string_view message);
Json refusal_object(const Error& error);

/// Somebody who may end a wait for an answer: while `fd` is readable (-1: never), `go_on` is asked. Hanging up takes a request
/// back that the agent has not decided yet.
struct Interruption {
    int fd = -1;
    std::function<bool()> go_on;
};

class AgentConnection {
public:
    /// Sends one request and waits for its reply. An error means that the agent gave none (AGENT_UNAVAILABLE).
    Result<Reply> call(std::string_view method, Json params);

    /// Waits of this connection heed `interruption`, which outlives it.
    void heed(const Interruption* interruption) { m_interruption = interruption; }
    /// For as long as it takes: what follows may be hours away.
    void wait_without_limit();
    /// The next message of a stream that call() began.
    Result<Json> next_message();

    /// The agent's process; 0 when it lives in another pid namespace.
    [[nodiscard]] pid_t agent_pid() const { return m_pid; }
    [[nodiscard]] const std::string& socket() const { return m_socket; }
    /// Readable when a message has come, or a part of one; unless it was received together with the one before.
    [[nodiscard]] int fd() const { return m_fd.get(); }
    [[nodiscard]] bool has_message() const { return m_buffer.find('\n') != std::string::npos; }
    /// The agent ended the connection before it answered: it may be on its way out, and another one may be started.
    [[nodiscard]] bool hung_up() const { return m_hung_up; }

private:
    friend Result<std::optional<AgentConnection>> find_agent(const Deadline& deadline);
    static Result<std::optional<AgentConnection>> connect_to(const std::string& socket, const Deadline& deadline);
    AgentConnection(UniqueFd fd, pid_t pid, std::string socket, const Deadline& deadline)
        : m_fd(std::move(fd)), m_pid(pid), m_socket(std::move(socket)), m_deadline(deadline) {}
    Status send_line(std::string_view line);
    Result<std::string> receive_line();
    Status wait_on(std::string_view what) const;
    [[nodiscard]] Status await_message() const;

    UniqueFd m_fd;
    pid_t m_pid = 0;
    std::string m_socket;
    Deadline m_deadline;
    std::string m_buffer;
    int m_last_id = 0;
    bool m_hung_up = false;
    const Interruption* m_interruption = nullptr;
};

/// Where the agent may be: our own runtime directory, and, where it is another one, that of the agent that has the registry's
/// lock (or had it). What is published there is to be believed only while its writer lives.
std::vector<std::string> agent_directories();
/// The lock of this machine's registry.
std::string own_lock();

/// The agent that runs, if one does: at the runtime directory's socket, else where the registry's lock says.
Result<std::optional<AgentConnection>> find_agent(const Deadline& deadline);
/// The same for those who must not start one: connecting to a socket that a service manager listens on would.
Result<std::optional<AgentConnection>> find_running_agent(const Deadline& deadline);
/// The agent that runs, else one started now: by the user's service manager where it has our units, else (or where that is not
/// wanted) as a process of its own.
Result<AgentConnection> reach_agent(const Deadline& deadline, bool through_manager = true);

struct Answer {
    Reply reply;
    std::string socket;  ///< of the agent that answered
};
/// reach_agent and call, once more with another agent when the first one was just ending.
Result<Answer> ask_agent(std::string_view method, const Json& params, const Deadline& deadline, const Interruption* interruption = nullptr);

/// The program that runs, resolved; empty without /proc.
[[nodiscard]] std::string own_program();
inline constexpr const char* k_no_proc = "/proc is not mounted, and nothing can be told of processes without it";

}  // namespace portwrap
