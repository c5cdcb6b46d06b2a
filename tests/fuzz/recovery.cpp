// A whole registry's directory: snapshot, backup, two sealed segments, journal; then a life with it: append, compact, start again.
#include <fcntl.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>

#include "fuzz.hpp"
#include "storage/recovery.hpp"

using namespace portwrap;

namespace {

/// Files in memory, as far as recovery uses them.
class MemoryFiles final : public Files {
public:
    std::map<std::string, std::shared_ptr<std::string>> names;

    int open(const std::string& path, int flags, mode_t) override {
        auto found = names.find(path);
        if (found == names.end() && (flags & O_DIRECTORY) == 0) {
            if ((flags & O_CREAT) == 0) { return -ENOENT; }
            found = names.emplace(path, std::make_shared<std::string>()).first;
        }
        m_open.push_back({found == names.end() ? nullptr : found->second, 0});
        if ((flags & O_TRUNC) != 0) { m_open.back().text->clear(); }
        return static_cast<int>(m_open.size()) - 1;
    }
    ssize_t write(int fd, const void* bytes, std::size_t size) override {
        at(fd).text->append(static_cast<const char*>(bytes), size);
        return static_cast<ssize_t>(size);
    }
    ssize_t read(int fd, void* bytes, std::size_t size) override {
        auto& file = at(fd);
        const auto count = std::min(size, file.text->size() - file.position);
        std::memcpy(bytes, file.text->data() + file.position, count);
        file.position += count;
        return static_cast<ssize_t>(count);
    }
    int fdatasync(int) override { return 0; }
    int fsync(int) override { return 0; }
    int truncate(int fd, std::uint64_t size) override {
        at(fd).text->resize(size);
        return 0;
    }
    int close(int) override { return 0; }
    int rename(const std::string& from, const std::string& to) override {
        const auto found = names.find(from);
        if (found == names.end()) { return -ENOENT; }
        names[to] = found->second;
        names.erase(from);
        return 0;
    }
    int link(const std::string& from, const std::string& to) override {
        const auto found = names.find(from);
        if (found == names.end() || names.contains(to)) { return found == names.end() ? -ENOENT : -EEXIST; }
        names[to] = found->second;
        return 0;
    }
    int unlink(const std::string& path) override { return names.erase(path) == 0 ? -ENOENT : 0; }
    bool is_at(int fd, const std::string& path) override {
        const auto found = names.find(path);
        return found == names.end() ? at(fd).text == nullptr : found->second == at(fd).text;
    }
    int make_directory(const std::string&) override { return 0; }
    int lock(int) override { return 0; }
    int list(const std::string& directory, std::vector<std::string>& found) override {
        for (const auto& entry : names) { found.push_back(entry.first.substr(directory.size() + 1)); }
        return 0;
    }

private:
    struct Open {
        std::shared_ptr<std::string> text;
        std::size_t position = 0;
    };
    Open& at(int fd) { return m_open[static_cast<std::size_t>(fd)]; }
    std::vector<Open> m_open;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto parts = fuzz::parts_of({reinterpret_cast<const char*>(data), size});
    const std::string names[] = {std::string(k_snapshot_name), std::string(k_backup_name), std::string(k_journal_name), segment_name(3), segment_name(9)};
    MemoryFiles files;
    for (std::size_t i = 0; i < std::size(names) && i < parts.size(); ++i) {
        if (parts[i] == "-") { continue; }  // this file does not exist
        files.names["/r/" + names[i]] = std::make_shared<std::string>(i < 2 ? fuzz::with_snapshot_checksum(parts[i]) : fuzz::with_line_checksums(parts[i]));
    }
    const auto before = files.names;
    const Time now{};
    const auto first = recover(files, "/r", "machine", now);
    if (!first) {
        for (const auto& [name, text] : before) {
            fuzz::promise(files.names.contains(name), "a registry that is refused is not touched");
        }
        return 0;
    }
    const auto second = recover(files, "/r", "machine", now);
    fuzz::promise(second.has_value(), "what was repaired can be read");
    fuzz::promise(second->registry == first->registry, "and is the same registry");
    fuzz::promise(second->registry.last_seq() <= first->registry.last_seq(), "numbers that were lost are not given again by the first reader");
    fuzz::promise(!second->torn, "nothing is torn any more");
    return 0;
}
