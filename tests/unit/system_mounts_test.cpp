#include "system/mounts.hpp"

#include <catch2/catch.hpp>

using namespace portwrap;

TEST_CASE("mount points are read from mountinfo, escapes included", "[mounts]") {
    const auto points = mount_points_of(
        "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n"
        "30 22 0:26 / /mnt/my\\040share rw shared:1 - nfs4 host:/share rw\n"
        "nonsense\n"
        "31 22 0:27 / /mnt/a\\134b rw - tmpfs tmpfs rw");
    CHECK(points == std::vector<std::string>{"/", "/mnt/my share", "/mnt/a\\b"});
    CHECK(mount_points_of("").empty());
}

TEST_CASE("a path lies on the longest mount point that it is below", "[mounts]") {
    const std::vector<std::string> points{"/", "/home", "/home/me/nfs", "/mnt"};
    CHECK(mount_point_of(points, "/home/me/nfs") == "/home/me/nfs");
    CHECK(mount_point_of(points, "/home/me/nfs/a/b") == "/home/me/nfs");
    CHECK(mount_point_of(points, "/home/me/nfs2") == "/home");
    CHECK(mount_point_of(points, "/mntx") == "/");
    CHECK(mount_point_of({}, "/x") == "/");
}

TEST_CASE("the machine's own mounts are known", "[mounts]") {
    Mounts mounts;
    CHECK(mounts.of("/proc/self") == "/proc");
    CHECK(mounts.of("/proc/1/status") == "/proc");
}
