// Opening, checking and reading in the order that leaves no gap: what was opened is what is checked.
#include "system/bounded_read.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <semaphore>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "portwrap/unique_fd.hpp"

namespace portwrap {
namespace {

constexpr int k_open_flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

bool read_up_to(int fd, std::size_t limit, std::string& into) {
    std::array<char, 16384> buffer;
    while (into.size() < limit) {
        const std::size_t wanted = limit - into.size() < buffer.size() ? limit - into.size() : buffer.size();
        const ssize_t count = ::read(fd, buffer.data(), wanted);
        if (count < 0) {
            if (errno == EINTR) { continue; }
            return false;
        }
        if (count == 0) { break; }
        into.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return true;
}

std::counting_semaphore<2> turns(2);

FileContent failure(int error) {
    if (error == ENOENT || error == ENOTDIR || error == ELOOP || error == ENAMETOOLONG) { return FileAbsent{}; }
    return FileRefused{std::strerror(error)};
}

}  // namespace

FileContent examine_project_file(const std::string& path, std::size_t limit) {
    // Opening a FIFO would wake its writer and opening a device may do anything: look first, then check again what
    // was really opened.
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) { return failure(errno); }
    if (!S_ISREG(status.st_mode)) { return FileRefused{"not a regular file"}; }
    const UniqueFd fd(::open(path.c_str(), k_open_flags));
    if (!fd.valid()) { return failure(errno); }
    if (::fstat(fd.get(), &status) != 0) { return failure(errno); }
    if (!S_ISREG(status.st_mode)) { return FileRefused{"not a regular file"}; }
    std::string content;
    // One byte more than allowed, for st_size may be out of date.
    if (!read_up_to(fd.get(), limit + 1, content)) { return failure(errno); }
    if (content.size() > limit) { return FileRefused{"larger than " + std::to_string(limit / 1'000'000) + " MB"}; }
    return content;
}

std::optional<std::string> read_project_file(const std::string& path) {
    FileContent content = examine_project_file(path);
    if (auto* text = std::get_if<std::string>(&content)) { return std::move(*text); }
    return std::nullopt;
}

Turn::Turn(bool wanted) : m_has(wanted) {
    if (m_has) { turns.acquire(); }
}

Turn::~Turn() {
    if (m_has) { turns.release(); }
}

Turn turn_for(std::string_view text) {
    constexpr std::size_t k_small = 64 * 1024;
    return Turn(text.size() > k_small);
}

bool is_readable_file(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
           ::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) == 0;
}

std::optional<std::string> read_system_file(const std::string& path, std::size_t limit) {
    const UniqueFd fd(::open(path.c_str(), k_open_flags));
    if (!fd.valid()) { return std::nullopt; }
    std::string content;
    if (!read_up_to(fd.get(), limit, content)) { return std::nullopt; }
    return content;
}

}  // namespace portwrap
