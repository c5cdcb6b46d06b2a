// CRC-32 of IEEE 802.3 (reflected polynomial 0xEDB88320), the one of zlib, eight bytes at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace portwrap {

inline constexpr auto k_crc32_tables = [] {
    std::array<std::array<std::uint32_t, 256>, 8> tables{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) { value = (value & 1U) != 0 ? (value >> 1U) ^ 0xEDB88320U : value >> 1U; }
        tables[0][i] = value;
    }
    for (std::size_t slice = 1; slice < 8; ++slice) {
        for (std::size_t i = 0; i < 256; ++i) {
            const auto before = tables[slice - 1][i];
            tables[slice][i] = (before >> 8U) ^ tables[0][before & 0xFFU];
        }
    }
    return tables;
}();

[[nodiscard]] constexpr std::uint32_t crc32(std::string_view bytes) {
    const auto at = [bytes](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i])); };
    const auto& tables = k_crc32_tables;
    std::uint32_t crc = 0xFFFFFFFFU;
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) {
        crc ^= at(i) | at(i + 1) << 8U | at(i + 2) << 16U | at(i + 3) << 24U;
        crc = tables[7][crc & 0xFFU] ^ tables[6][crc >> 8U & 0xFFU] ^ tables[5][crc >> 16U & 0xFFU] ^
              tables[4][crc >> 24U] ^ tables[3][at(i + 4)] ^ tables[2][at(i + 5)] ^ tables[1][at(i + 6)] ^
              tables[0][at(i + 7)];
    }
    for (; i < bytes.size(); ++i) { crc = crc >> 8U ^ tables[0][(crc ^ at(i)) & 0xFFU]; }
    return ~crc;
}

static_assert(crc32("123456789") == 0xCBF43926U);

/// As 8 lower-case hex digits.
[[nodiscard]] inline std::string crc32_text(std::string_view bytes) {
    constexpr std::string_view k_digits = "0123456789abcdef";
    const auto crc = crc32(bytes);
    std::string text(8, '0');
    for (std::size_t i = 0; i < 8; ++i) { text[i] = k_digits[crc >> (28U - 4U * i) & 0xFU]; }
    return text;
}

}  // namespace portwrap
