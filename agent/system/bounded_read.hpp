// Reading files that somebody else wrote, without being hung or flooded by them: a FIFO or a device is never opened
// for reading, and no more than a limit is read.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace portwrap {

inline constexpr std::size_t k_project_file_limit = 1'000'000;  ///< bytes; larger files of projects are not read

/// What is at a path: nothing, a regular file's content, or a reason why it cannot be used ("not a regular file").
struct FileAbsent {};
struct FileRefused {
    std::string reason;
};
using FileContent = std::variant<FileAbsent, FileRefused, std::string>;

/// Follows symbolic links; a loop or a dangling link is absent.
[[nodiscard]] FileContent examine_project_file(const std::string& path, std::size_t limit = k_project_file_limit);
/// The content, or none for whatever reason.
[[nodiscard]] std::optional<std::string> read_project_file(const std::string& path);
/// True for a regular file that this user may read, of any size.
[[nodiscard]] bool is_readable_file(const std::string& path);

/// Looking through a text takes a multiple of its memory: of those who look through large ones two do so at once, the others wait
/// for their turn. Held meanwhile, and never while a file is read, which may hang; small texts wait for nobody. Any thread.
class Turn {
public:
    explicit Turn(bool wanted);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

private:
    bool m_has = false;
};
[[nodiscard]] Turn turn_for(std::string_view text);

/// The first `limit` bytes of a file of procfs or /etc, whose st_size says nothing.
[[nodiscard]] std::optional<std::string> read_system_file(const std::string& path, std::size_t limit);

}  // namespace portwrap
