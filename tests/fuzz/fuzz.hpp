// What the fuzz targets share. A target feeds bytes to one reader and checks what must hold for whatever it accepts; a
// promise that is broken ends the program, which libFuzzer reports together with the input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "storage/crc32.hpp"

namespace portwrap::fuzz {

inline void promise(bool holds, const char* what) {
    if (holds) { return; }
    std::fprintf(stderr, "broken promise: %s\n", what);
    std::abort();
}

/// Inputs that stand for several files are cut at lines that say "%%".
inline std::vector<std::string_view> parts_of(std::string_view input) {
    constexpr std::string_view k_cut = "\n%%\n";
    std::vector<std::string_view> parts;
    for (auto end = input.find(k_cut); end != std::string_view::npos; end = input.find(k_cut)) {
        parts.push_back(input.substr(0, end));
        input.remove_prefix(end + k_cut.size());
    }
    parts.push_back(input);
    return parts;
}

/// Checksums that are right wherever one stands in the place of one: no fuzzer guesses a CRC, and behind it lies the
/// reader that is of interest. `name` is what stands before the eight digits; they cover the bytes from `begin` on.
inline void mend_checksum(std::string& text, std::size_t begin, std::size_t end, std::string_view name) {
    const auto at = std::string_view(text).substr(begin, end - begin).rfind(name);
    if (at == std::string_view::npos || begin + at + name.size() + 8 > end) { return; }
    const auto digits = begin + at + name.size();
    text.replace(digits, 8, crc32_text(std::string_view(text).substr(begin, at)));
}

inline std::string with_line_checksums(std::string_view input) {
    std::string text(input);
    for (std::size_t begin = 0; begin < text.size();) {
        const auto newline = text.find('\n', begin);
        const auto end = newline == std::string::npos ? text.size() : newline;
        mend_checksum(text, begin, end, "\"crc\":\"");
        begin = end + 1;
    }
    return text;
}

inline std::string with_snapshot_checksum(std::string_view input) {
    std::string text(input);
    mend_checksum(text, 0, text.size(), "\"crc\": \"");
    return text;
}

/// No control characters of C0, DEL or (as UTF-8) C1: what may be shown on a terminal.
inline bool is_showable(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte < 0x20 || byte == 0x7f) { return false; }
        const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : '\0');
        if (byte == 0xc2 && next >= 0x80 && next < 0xa0) { return false; }
    }
    return true;
}

/// A directory in memory for the readers that want files; it goes with the process.
class Directory {
public:
    Directory() {
        std::string pattern = "/dev/shm/portwrap-fuzz-XXXXXX";
        promise(::mkdtemp(pattern.data()) != nullptr, "a directory in /dev/shm can be made");
        m_path = pattern;
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;
    ~Directory() {
        std::error_code ignored;
        std::filesystem::remove_all(m_path, ignored);
    }
    [[nodiscard]] std::string at(const std::string& name) const { return m_path + "/" + name; }
    void file(const std::string& name, std::string_view text) const {
        std::ofstream(at(name), std::ios::binary | std::ios::trunc).write(text.data(), static_cast<std::streamsize>(text.size()));
    }

private:
    std::string m_path;
};

}  // namespace portwrap::fuzz
