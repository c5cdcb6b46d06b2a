#include "system/mounts.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace portwrap {
namespace {

constexpr std::size_t k_mountinfo_limit = 4 << 20;

bool is_octal(char c) { return c >= '0' && c <= '7'; }

/// Space, tab, newline and backslash are written as \ooo.
std::string unescaped(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) && is_octal(text[i + 3])) {
            result += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
            i += 3;
        } else {
            result += text[i];
        }
    }
    return result;
}

std::string_view next_field(std::string_view& line) {
    const auto end = line.find(' ');
    const auto field = line.substr(0, end);
    line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
    return field;
}

}  // namespace

std::vector<std::string> mount_points_of(std::string_view mountinfo) {
    std::vector<std::string> found;
    while (!mountinfo.empty()) {
        const auto end = mountinfo.find('\n');
        auto line = mountinfo.substr(0, end);
        mountinfo.remove_prefix(end == std::string_view::npos ? mountinfo.size() : end + 1);
        // mount id, parent id, device, root within the file system, mount point
        for (int skipped = 0; skipped < 4; ++skipped) { (void)next_field(line); }
        if (const auto point = next_field(line); point.starts_with('/')) { found.push_back(unescaped(point)); }
    }
    return found;
}

std::string mount_point_of(const std::vector<std::string>& mount_points, std::string_view path) {
    std::string_view best = "/";
    for (const auto& point : mount_points) {
        const bool below = path.starts_with(point) && (path.size() == point.size() || path[point.size()] == '/');
        if (below && point.size() > best.size()) { best = point; }
    }
    return std::string(best);
}

std::string Mounts::of(std::string_view path) {
    bool changed = !m_watch.valid();
    if (changed) {
        m_watch.reset(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
        if (!m_watch.valid()) { return "/"; }
    }
    pollfd watch{m_watch.get(), POLLPRI, 0};
    changed = (::poll(&watch, 1, 0) == 1 && (watch.revents & (POLLPRI | POLLERR)) != 0) || changed;
    if (changed && ::lseek(m_watch.get(), 0, SEEK_SET) == 0) {
        std::string text;
        char buffer[16384];
        for (ssize_t count = 0; text.size() < k_mountinfo_limit && (count = ::read(m_watch.get(), buffer, sizeof buffer)) > 0;) {
            text.append(buffer, static_cast<std::size_t>(count));
        }
        m_mount_points = mount_points_of(text);
    }
    return mount_point_of(m_mount_points, path);
}

}  // namespace portwrap
