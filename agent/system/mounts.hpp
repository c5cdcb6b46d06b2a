// Which file system a path lies on, without touching it: the path may be on a mount that does not answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "portwrap/unique_fd.hpp"

namespace portwrap {

/// The mount points of a text like /proc/self/mountinfo (proc(5)), unescaped, in its order.
[[nodiscard]] std::vector<std::string> mount_points_of(std::string_view mountinfo);

/// The mount point among these that a normalized absolute path lies below, by its name alone; "/" where none fits better.
[[nodiscard]] std::string mount_point_of(const std::vector<std::string>& mount_points, std::string_view path);

/// The mounts as they are now. Read again only when they have changed (the kernel says so to poll(2)). One thread.
class Mounts {
public:
    [[nodiscard]] std::string of(std::string_view path);

private:
    UniqueFd m_watch;
    std::vector<std::string> m_mount_points;
};

}  // namespace portwrap
