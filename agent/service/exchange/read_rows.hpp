// Files of leases, ours and those of other tools, as rows. Pure: text in, rows and refusals out. Every row is checked by
// itself here; what it means for the registry is decided in core/import_rules.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/import_rules.hpp"
#include "portwrap/result.hpp"

namespace portwrap {

/// The words of `--format`; `worktrees`, `applications` and `ports` are the registries of other tools.
enum class ImportFormat { json, csv, markdown, env, worktrees, applications, ports };
template <>
struct Words<ImportFormat> {
    static constexpr std::array<std::string_view, 7> k_words{"json", "csv", "markdown", "env", "worktrees", "applications", "ports"};
};

struct RowsRead {
    ImportFormat format = ImportFormat::json;
    std::vector<ImportRow> rows;
    std::vector<RefusedRow> refused;
};

/// What one file may hold. With it, and with 6 MB of text, reading takes no more than some 20 MB of memory, whatever the text says.
inline constexpr std::size_t k_import_rows = 4'000;

/// An error when the whole text cannot be read as `format` says (or as what it looks like, without one), or has too many rows.
[[nodiscard]] Result<RowsRead> read_rows(std::string_view text, std::optional<ImportFormat> format);

/// RFC 3339, PostgreSQL's "2025-01-15 10:30:00.5+00", or without a zone (UTC is meant); none for other text.
[[nodiscard]] std::optional<Time> lenient_time(std::string_view text);

}  // namespace portwrap
