// /proc as it is, with processes started for the purpose.
#include <catch2/catch.hpp>

#include <array>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <set>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "system/processes.hpp"

using namespace portwrap;

namespace {

/// A child that waits until it is killed. It has run `prepare` when the constructor returns.
class Child {
public:
    template <typename Prepare>
    explicit Child(const Prepare& prepare) {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        m_pid = ::fork();
        REQUIRE(m_pid >= 0);
        if (m_pid == 0) {
            prepare();
            const char done = 'x';
            if (::write(ends[1], &done, 1) != 1) { ::_exit(1); }
            for (;;) { ::pause(); }
        }
        char done = 0;
        REQUIRE(::read(ends[0], &done, 1) == 1);
        ::close(ends[0]);
        ::close(ends[1]);
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() {
        kill();
        reap();
    }
    void kill() const {
        if (m_pid > 0) { ::kill(m_pid, SIGKILL); }
    }
    void reap() {
        if (m_pid > 0) { ::waitpid(m_pid, nullptr, 0); }
        m_pid = 0;
    }
    [[nodiscard]] pid_t pid() const { return m_pid; }

private:
    pid_t m_pid = 0;
};

/// Runs `sleep` with these variables alone. It has begun to when this returns; the caller ends it.
pid_t start_sleeper(std::vector<const char*> variables) {
    variables.push_back(nullptr);
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::execle("/bin/sleep", "sleep", "1000", nullptr, variables.data());
        ::_exit(1);
    }
    ::close(ends[1]);
    char nothing = 0;
    CHECK(::read(ends[0], &nothing, 1) == 0);  // exec has closed the other end
    ::close(ends[0]);
    return child;
}

ino_t inode_of(int fd) {
    struct stat status {};
    REQUIRE(::fstat(fd, &status) == 0);
    return status.st_ino;
}

}  // namespace

TEST_CASE("a process reads its own facts", "[processes]") {
    const auto stat = read_process(::getpid());
    REQUIRE(stat);
    CHECK(stat->id.pid == ::getpid());
    CHECK(stat->parent == ::getppid());
    CHECK(stat->state == 'R');
    const auto now = std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
    // The boot time is in whole seconds, so a start may seem to lie a moment ahead.
    CHECK(stat->started_at < now + std::chrono::seconds(2));
    CHECK(stat->started_at > now - std::chrono::hours(24));
    CHECK(is_alive(stat->id));
    CHECK_FALSE(is_alive({stat->id.pid, stat->id.start_ticks + 1}));
    CHECK_FALSE(read_arguments(::getpid()).empty());
    CHECK(read_command(::getpid()).find(read_executable(::getpid())) != std::string::npos);
    CHECK(read_cwd(::getpid()).path == std::filesystem::current_path().string());
    CHECK(read_uid(::getpid()) == ::geteuid());
    CHECK(user_name(0) == "root");
    CHECK(user_name(3999999999U) == "3999999999");
    CHECK(read_boot_id().size() == 36);
    CHECK_FALSE(read_machine_id().empty());
}

TEST_CASE("what is no process has no facts", "[processes]") {
    for (const pid_t pid : {0, -1, 2147483647}) {
        CHECK_FALSE(read_process(pid));
        CHECK(read_command(pid).empty());
        CHECK(read_arguments(pid).empty());
        CHECK(read_cwd(pid).path.empty());
        CHECK(read_executable(pid).empty());
        CHECK_FALSE(read_uid(pid));
        CHECK_FALSE(open_pidfd(pid).valid());
        CHECK_FALSE(is_alive({pid, 1}));
    }
}

TEST_CASE("a zombie is not alive and a pidfd tells the death", "[processes]") {
    Child child([] {});
    const auto stat = read_process(child.pid());
    REQUIRE(stat);
    CHECK(stat->parent == ::getpid());
    CHECK(is_alive(stat->id));
    const UniqueFd pidfd = open_pidfd(child.pid());
    REQUIRE(pidfd.valid());
    child.kill();
    pollfd waiting{pidfd.get(), POLLIN, 0};
    REQUIRE(::poll(&waiting, 1, 10'000) == 1);
    CHECK(read_process(child.pid())->state == 'Z');
    CHECK_FALSE(is_alive(stat->id));
    child.reap();
    CHECK_FALSE(read_process(stat->id.pid));
}

TEST_CASE("parentheses, spaces and line ends in a name confuse nobody", "[processes]") {
    const Child child([] { ::prctl(PR_SET_NAME, "a) Z 1 (\nb"); });
    const auto stat = read_process(child.pid());
    REQUIRE(stat);
    CHECK(stat->parent == ::getpid());
    CHECK((stat->state == 'S' || stat->state == 'R'));
    CHECK(stat->id.start_ticks >= read_process(::getpid())->id.start_ticks);
}

TEST_CASE("a removed working directory is where it was, also when another one is there by now", "[processes]") {
    std::string pattern = (std::filesystem::temp_directory_path() / "portwrap-cwd-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    const auto path = std::filesystem::canonical(pattern).string();
    const Child child([&pattern] { static_cast<void>(::chdir(pattern.c_str()) == 0); });
    CHECK(read_cwd(child.pid()).path == path);
    CHECK_FALSE(read_cwd(child.pid()).removed);
    std::filesystem::remove(path);
    for (const bool again : {false, true}) {
        if (again) { std::filesystem::create_directory(path); }
        CHECK(read_cwd(child.pid()).path == path);
        CHECK(read_cwd(child.pid()).removed);
    }
    std::filesystem::remove(path);
}

TEST_CASE("a directory may be called as if it were removed", "[processes]") {
    std::string pattern = (std::filesystem::temp_directory_path() / "portwrap-cwd-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    const auto path = std::filesystem::canonical(pattern).string() + " (deleted)";
    std::filesystem::rename(pattern, path);
    const Child child([&path] { static_cast<void>(::chdir(path.c_str()) == 0); });
    CHECK(read_cwd(child.pid()).path == path);
    CHECK_FALSE(read_cwd(child.pid()).removed);
    std::filesystem::remove(path);
    CHECK(read_cwd(child.pid()).path == path);
    CHECK(read_cwd(child.pid()).removed);
}

TEST_CASE("what a process has mapped, and what it was told at its start", "[processes]") {
    CHECK(has_mapped(::getpid(), "libc.so.6"));
    CHECK_FALSE(has_mapped(::getpid(), "libc.so.6.of-nobody"));
    CHECK_FALSE(has_mapped(0, "libc.so.6"));
    REQUIRE(std::getenv("PATH") != nullptr);
    CHECK(read_variable(::getpid(), "PATH") == std::getenv("PATH"));
    CHECK_FALSE(read_variable(::getpid(), "PAT"));
    CHECK_FALSE(read_variable(0, "PATH"));
}

TEST_CASE("the holder of a socket is found, the lowest pid where several have it", "[processes]") {
    const UniqueFd shared(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(shared.valid());
    UniqueFd handed(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const ino_t handed_inode = inode_of(handed.get());
    const Child child([] {});
    handed.reset();
    const ino_t inode = inode_of(shared.get());
    const ProcessId own = read_process(::getpid())->id;
    const ProcessId childs = read_process(child.pid())->id;
    const auto found = find_socket_holders({inode, handed_inode, 0, 1}, {});
    CHECK(found.size() == 2);
    CHECK(found.at(inode) == std::min(own, childs));
    CHECK(found.at(handed_inode) == childs);
    CHECK(find_socket_holders({inode}, {child.pid(), ::getpid()}).at(inode) == std::min(own, childs));
    CHECK(find_socket_holders({inode}, {child.pid()}).at(inode) == childs);
    CHECK(find_socket_holders({}, {}).empty());
}

TEST_CASE("a process that outlived its session is found by what its environment says", "[system]") {
    const pid_t child = start_sleeper({"PORTWRAP_SESSION=2147480000.17", "LAST=PORTWRAP_SESSION=2147480001.17"});
    const ProcessId session{2147480000, 17};
    const std::set<ProcessId> sessions{{2147480000, 1}, session, {2147480001, 17}};
    const auto found = find_survivors(sessions);
    REQUIRE(found);
    REQUIRE(found->size() == 1);
    CHECK(found->at(session).pid == child);
    CHECK(is_alive(found->at(session)));
    ::kill(child, SIGKILL);
    siginfo_t info{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) == 0);
    const auto left = find_survivors(sessions);  // a zombie
    REQUIRE(left);
    CHECK(left->empty());
    ::waitpid(child, nullptr, 0);
}

TEST_CASE("a child that began with a variable is found by it", "[system]") {
    const pid_t child = start_sleeper({"FIRST=1", "NODE_UNIQUE_ID=1", "LAST=NODE_OTHER_ID=1"});
    const bool lists_children = ::access(("/proc/self/task/" + std::to_string(::getpid()) + "/children").c_str(), R_OK) == 0;
    CHECK(has_child_with_variable(::getpid(), "NODE_UNIQUE_ID") == lists_children);
    CHECK(has_child_with_variable(::getpid(), "FIRST") == lists_children);
    CHECK_FALSE(has_child_with_variable(::getpid(), "NODE_OTHER_ID"));
    CHECK_FALSE(has_child_with_variable(::getpid(), "UNIQUE_ID"));
    CHECK_FALSE(has_child_with_variable(child, "FIRST"));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    CHECK_FALSE(has_child_with_variable(::getpid(), "NODE_UNIQUE_ID"));
}
