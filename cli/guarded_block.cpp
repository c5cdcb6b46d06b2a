// See guarded_block.hpp.
#include "guarded_block.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "portwrap/unique_fd.hpp"

namespace portwrap {

namespace {

constexpr std::string_view k_begin = "# >>> portwrap >>> managed by portctl; changes in here are lost\n";
/// The beginning of the guard alone, so that a later version may say more in it.
constexpr std::string_view k_begin_mark = "# >>> portwrap >>>";
constexpr std::string_view k_end_mark = "# <<< portwrap <<<";
constexpr std::size_t k_limit = 4'000'000;

Error trouble(const std::string& path) { return Error{ErrorCode::storage_error, path + ": " + std::strerror(errno)}; }

/// The start of the line that begins with `mark`; npos when there is none.
std::size_t find_line(std::string_view text, std::string_view mark, std::size_t from) {
    for (auto at = text.find(mark, from); at != std::string_view::npos; at = text.find(mark, at + 1)) {
        if (at == 0 || text[at - 1] == '\n') { return at; }
    }
    return std::string_view::npos;
}

}  // namespace

Result<std::string> with_block(std::string_view text, std::string_view block, BlockPlace place) {
    std::string guarded;
    if (!block.empty()) { guarded = std::string(k_begin) + std::string(block) + std::string(k_end_mark) + "\n"; }
    const auto begin = find_line(text, k_begin_mark, 0);
    const auto end = find_line(text, k_end_mark, 0);
    if (begin == std::string_view::npos && end == std::string_view::npos) {
        std::size_t at = text.size();
        if (place == BlockPlace::after_shebang) {
            const auto line = text.find('\n');
            at = !text.starts_with("#!") ? 0 : line == std::string_view::npos ? text.size() : line + 1;
        }
        std::string joined(text.substr(0, at));
        if (!guarded.empty() && !joined.empty() && joined.back() != '\n') { joined += '\n'; }
        return joined + guarded + std::string(text.substr(at));
    }
    if (begin == std::string_view::npos || end == std::string_view::npos || end < begin) {
        return Error{ErrorCode::invalid_request, "one of the lines around portwrap's block is missing (" + std::string(k_begin_mark) + ", " + std::string(k_end_mark) + ")"};
    }
    const auto newline = text.find('\n', end);
    const auto after = newline == std::string_view::npos ? text.size() : newline + 1;
    return std::string(text.substr(0, begin)) + guarded + std::string(text.substr(after));
}

Result<std::string> read_whole_file(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd.valid()) {
        if (errno == ENOENT) { return std::string(); }
        return trouble(path);
    }
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) { return trouble(path); }
    if (!S_ISREG(status.st_mode)) { return Error{ErrorCode::storage_error, path + ": not a regular file"}; }
    std::string text;
    char buffer[16384];
    for (;;) {
        const auto count = ::read(fd.get(), buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) { continue; }
        if (count < 0) { return trouble(path); }
        if (count == 0) { return text; }
        text.append(buffer, static_cast<std::size_t>(count));
        if (text.size() > k_limit) { return Error{ErrorCode::storage_error, path + ": too large"}; }
    }
}

Status replace_file(const std::string& path, std::string_view text, unsigned mode) {
    std::string target = path;
    char resolved[PATH_MAX];
    if (::realpath(path.c_str(), resolved) != nullptr) { target = resolved; }
    struct stat status {};
    if (::stat(target.c_str(), &status) == 0) {
        if (!S_ISREG(status.st_mode)) {  // /dev/stdout and the like
            const UniqueFd device(::open(target.c_str(), O_WRONLY | O_CLOEXEC));
            if (!device.valid() || ::write(device.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) { return trouble(path); }
            return ok_status();
        }
        mode = status.st_mode & 07777U;
    }
    auto temporary = target + ".XXXXXX";
    const UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
    if (!fd.valid()) { return trouble(path); }
    std::size_t done = 0;
    while (done < text.size()) {
        const auto count = ::write(fd.get(), text.data() + done, text.size() - done);
        if (count < 0 && errno == EINTR) { continue; }
        if (count <= 0) { break; }
        done += static_cast<std::size_t>(count);
    }
    if (done < text.size() || ::fchmod(fd.get(), mode) != 0 || ::rename(temporary.c_str(), target.c_str()) != 0) {
        const auto error = trouble(path);
        ::unlink(temporary.c_str());
        return error;
    }
    return ok_status();
}

Status put_block(const std::string& path, std::string_view block, BlockPlace place) {
    const auto old = read_whole_file(path);
    if (!old) { return old.error(); }
    const auto changed = with_block(*old, block, place);
    if (!changed) { return Error{changed.error().code, path + ": " + changed.error().message}; }
    return *changed == *old ? ok_status() : replace_file(path, *changed);
}

}  // namespace portwrap
