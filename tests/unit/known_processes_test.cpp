// What is remembered of the processes that ask, with a child that becomes another program.
#include <catch2/catch.hpp>

#include <array>
#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "service/known_processes.hpp"

using namespace portwrap;

namespace {

/// A child that runs `cat` once it is told to, and ends with its input.
class Becoming {
public:
    Becoming() {
        REQUIRE(::pipe2(m_input.data(), O_CLOEXEC) == 0);
        REQUIRE(::pipe2(m_became.data(), O_CLOEXEC) == 0);
        m_pid = ::fork();
        REQUIRE(m_pid >= 0);
        if (m_pid == 0) {
            char word = 0;
            if (::dup2(m_input[0], STDIN_FILENO) < 0 || ::read(STDIN_FILENO, &word, 1) != 1) { ::_exit(1); }
            ::execl("/bin/cat", "cat", "-", static_cast<char*>(nullptr));
            ::_exit(1);
        }
        ::close(m_became[1]);
    }
    Becoming(const Becoming&) = delete;
    Becoming& operator=(const Becoming&) = delete;
    ~Becoming() {
        ::kill(m_pid, SIGKILL);
        ::waitpid(m_pid, nullptr, 0);
        for (const int fd : {m_input[0], m_input[1], m_became[0]}) { ::close(fd); }
    }
    void become() const {
        REQUIRE(::write(m_input[1], "x", 1) == 1);
        char none = 0;
        REQUIRE(::read(m_became[0], &none, 1) == 0);  // closed by the exec
    }
    [[nodiscard]] pid_t pid() const { return m_pid; }

private:
    pid_t m_pid = 0;
    std::array<int, 2> m_input{};
    std::array<int, 2> m_became{};
};

void apply(Registry& registry, Change change) {
    std::vector<Change> changes;
    changes.push_back(std::move(change));
    for (const auto& event : registry.stamp(std::move(changes), Time{})) { registry.apply(event); }
}

}  // namespace

TEST_CASE("a process that has become another program is read anew", "[known_processes]") {
    const Becoming child;
    KnownProcesses known;
    const auto* before = known.look(child.pid());
    REQUIRE(before != nullptr);
    CHECK(before->executable != "cat");
    const auto id = before->stat.id;
    child.become();
    const auto* after = known.look(child.pid());
    REQUIRE(after != nullptr);
    CHECK(after->stat.id == id);
    CHECK(after->command == "cat -");
    CHECK(after->arguments == std::vector<std::string>{"cat", "-"});
}

TEST_CASE("a process that is gone is not remembered", "[known_processes]") {
    KnownProcesses known;
    pid_t pid = 0;
    {
        const Becoming child;
        pid = child.pid();
        CHECK(known.look(pid) != nullptr);
    }
    CHECK(known.look(pid) == nullptr);
}

TEST_CASE("who stands below a session is looked up anew when a session begins or ends", "[known_processes]") {
    const Becoming child;
    KnownProcesses known;
    Registry registry;
    const auto process = known.look(child.pid())->stat;
    const auto self = read_process(::getpid());
    REQUIRE(self);
    CHECK(known.session_above(process, registry) == nullptr);
    Session session;
    session.id = session.outermost = self->id;
    apply(registry, SessionOpened{session});
    known.forget_sessions();
    for (int again = 0; again < 2; ++again) {
        const auto* above = known.session_above(process, registry);
        REQUIRE(above != nullptr);
        CHECK(above->id == self->id);
    }
    apply(registry, SessionClosed{session.id});
    known.forget_sessions();
    CHECK(known.session_above(process, registry) == nullptr);
}
