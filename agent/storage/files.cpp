// The real file operations: thin over the system calls, resumed after EINTR.
#include "storage/files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace portwrap {
namespace {

template <typename Call>
auto resumed(Call call) -> decltype(call()) {
    for (;;) {
        const auto result = call();
        if (result >= 0) { return result; }
        if (errno != EINTR) { return -errno; }
    }
}

class SystemFiles final : public Files {
public:
    int open(const std::string& path, int flags, mode_t mode) override {
        // What lies there need not be ours: a FIFO must not hang us and a device must not be read for ever.
        const int fd = resumed([&] { return ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode); });
        struct stat status {};
        if (fd < 0 || (::fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)))) { return fd; }
        ::close(fd);
        return -EINVAL;
    }
    ssize_t write(int fd, const void* data, std::size_t size) override {
        return resumed([&] { return ::write(fd, data, size); });
    }
    ssize_t read(int fd, void* data, std::size_t size) override {
        return resumed([&] { return ::read(fd, data, size); });
    }
    int fdatasync(int fd) override {
        return resumed([&] { return ::fdatasync(fd); });
    }
    int fsync(int fd) override {
        return resumed([&] { return ::fsync(fd); });
    }
    int truncate(int fd, std::uint64_t size) override {
        return resumed([&] { return ::ftruncate(fd, static_cast<off_t>(size)); });
    }
    int close(int fd) override {
        // Linux releases the descriptor even when close is interrupted: never repeat it.
        return ::close(fd) == 0 || errno == EINTR ? 0 : -errno;
    }
    int rename(const std::string& from, const std::string& to) override {
        return resumed([&] { return std::rename(from.c_str(), to.c_str()); });
    }
    int link(const std::string& from, const std::string& to) override {
        return resumed([&] { return ::link(from.c_str(), to.c_str()); });
    }
    int unlink(const std::string& path) override {
        return resumed([&] { return ::unlink(path.c_str()); });
    }
    bool is_at(int fd, const std::string& path) override {
        struct stat open_file {};
        struct stat named {};
        return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 && open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
    }
    int make_directory(const std::string& path) override { return ::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST ? 0 : -errno; }
    int lock(int fd) override { return resumed([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }); }
    int list(const std::string& directory, std::vector<std::string>& names) override {
        names.clear();
        DIR* const stream = ::opendir(directory.c_str());
        if (stream == nullptr) { return -errno; }
        int result = 0;
        for (;;) {
            errno = 0;
            const dirent* const entry = ::readdir(stream);
            if (entry == nullptr) {
                result = -errno;
                break;
            }
            std::string name = static_cast<const char*>(entry->d_name);
            if (name != "." && name != "..") { names.push_back(std::move(name)); }
        }
        ::closedir(stream);
        std::sort(names.begin(), names.end());
        return result;
    }
};

}  // namespace

Files& system_files() {
    static SystemFiles files;
    return files;
}

}  // namespace portwrap
