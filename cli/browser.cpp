// See browser.hpp.
#include "browser.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "portwrap/unique_fd.hpp"

namespace portwrap {

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    for (std::size_t at = 0; at <= text.size();) {
        const auto end = std::min(text.find(separator, at), text.size());
        if (end > at) { parts.push_back(text.substr(at, end - at)); }
        at = end + 1;
    }
    return parts;
}

}  // namespace

int run_detached(const std::vector<std::string>& command) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) { return errno; }
    const UniqueFd reading(ends[0]);
    UniqueFd writing(ends[1]);
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (const auto& word : command) { arguments.push_back(const_cast<char*>(word.c_str())); }
    arguments.push_back(nullptr);
    const pid_t child = ::fork();
    if (child < 0) { return errno; }
    if (child == 0) {
        if (::fork() != 0) { ::_exit(0); }
        ::setsid();
        // It outlives us: whoever reads our output must not wait for it.
        const int nowhere = ::open("/dev/null", O_RDWR);
        for (int fd = 0; nowhere >= 0 && fd <= 2; ++fd) { ::dup2(nowhere, fd); }
        ::execvp(arguments[0], arguments.data());
        const int error = errno;
        [[maybe_unused]] const auto written = ::write(writing.get(), &error, sizeof error);
        ::_exit(127);
    }
    writing.reset();
    ::waitpid(child, nullptr, 0);
    int error = 0;
    return ::read(reading.get(), &error, sizeof error) == sizeof error ? error : 0;
}

Status open_browser(const std::string& address) {
    const char* chosen = std::getenv("BROWSER");
    auto candidates = split(chosen != nullptr ? chosen : "", ':');
    if (candidates.empty()) { candidates.emplace_back("xdg-open"); }
    std::string why;
    for (const auto& candidate : candidates) {
        auto command = split(candidate, ' ');
        bool placed = false;
        for (auto& word : command) {
            if (const auto at = word.find("%s"); at != std::string::npos) {
                word.replace(at, 2, address);
                placed = true;
            }
        }
        if (command.empty()) { continue; }
        if (!placed) { command.push_back(address); }
        const int error = run_detached(command);
        if (error == 0) { return ok_status(); }
        why += (why.empty() ? "" : "; ") + command[0] + ": " + std::strerror(error);
    }
    return Error{ErrorCode::not_found, "no browser could be started (" + why + "); the address is " + address};
}

}  // namespace portwrap
