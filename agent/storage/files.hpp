// The few file operations that the store needs, as an interface, so that tests can make each of them fail.
// All return 0 or a positive count on success and -errno on failure, like the kernel. Called from two threads.
#pragma once

#include <cstdint>
#include <string>
#include <sys/types.h>
#include <vector>

namespace portwrap {

class Files {
public:
    virtual ~Files() = default;
    /// A regular file or a directory; -EINVAL for anything else. Never waits for another process.
    virtual int open(const std::string& path, int flags, mode_t mode) = 0;
    virtual ssize_t write(int fd, const void* data, std::size_t size) = 0;
    virtual ssize_t read(int fd, void* data, std::size_t size) = 0;
    virtual int fdatasync(int fd) = 0;
    virtual int fsync(int fd) = 0;
    virtual int truncate(int fd, std::uint64_t size) = 0;
    virtual int close(int fd) = 0;
    virtual int rename(const std::string& from, const std::string& to) = 0;
    virtual int link(const std::string& from, const std::string& to) = 0;
    virtual int unlink(const std::string& path) = 0;
    /// True while the path leads to the open file, as the next start would find it: one that somebody deleted, moved or replaced
    /// is lost with the descriptor. False also where that cannot be told.
    virtual bool is_at(int fd, const std::string& path) = 0;
    /// 0 when it is there already.
    virtual int make_directory(const std::string& path) = 0;
    /// Against other agents, as long as it is open (flock(2)); -EWOULDBLOCK when one has it.
    virtual int lock(int fd) = 0;
    /// Names in a directory, sorted, without "." and "..".
    virtual int list(const std::string& directory, std::vector<std::string>& names) = 0;
};

/// The real ones.
[[nodiscard]] Files& system_files();

}  // namespace portwrap
