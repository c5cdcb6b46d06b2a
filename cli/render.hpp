// What people see of portctl's results: tables that fit the terminal, ages, colours. Pure: width, colour and the present
// time are given. Everything that comes from outside is made printable here.
#pragma once

#include <cstddef>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client.hpp"

namespace portwrap {

struct Style {
    std::size_t width = 0;  ///< of the terminal in columns; 0: no limit
    bool colour = false;
    std::time_t now = 0;
};
/// Of standard output: colour only on a terminal and without NO_COLOR.
[[nodiscard]] Style style_of_stdout();

enum class Colour { none, bold, dim, red, green, yellow };

struct Cell {
    std::string text;
    Colour colour = Colour::none;
};

struct Column {
    std::string_view title;
    bool right = false;          ///< aligned to the right: numbers
    std::size_t narrowest = 0;   ///< how far it may be cut when the table is too wide; 0: never
};

/// Aligned, without trailing blanks, a line for the titles and one a row. A table that is too wide loses first from its
/// last column that may be cut, then from the one before it, and so on.
[[nodiscard]] std::string render_table(const std::vector<Column>& columns, const std::vector<std::vector<Cell>>& rows,
                                       const Style& style);

/// Seconds since the epoch of "2026-11-21T09:10:00Z" (fractions allowed), nothing for other text.
[[nodiscard]] std::optional<std::time_t> parse_time(std::string_view rfc3339);
/// "12s", "3m", "2h", "5d", "8w".
[[nodiscard]] std::string render_age(std::time_t seconds);
/// In local time: the time of day when it is less than a day ago, else the date and the time.
[[nodiscard]] std::string render_moment(std::string_view rfc3339, std::time_t now);

/// Aligned for people; CSV (RFC 4180) and a markdown table whole, without colour.
enum class TableForm { aligned, csv, markdown };
[[nodiscard]] std::string render_leases(const Json& leases, bool with_project, TableForm form, const Style& style);
[[nodiscard]] std::string render_check(const Json& result, const Style& style);
[[nodiscard]] std::string render_who(const Json& result, const Style& style);
/// The table of `portctl ranges`; `gaps`: the free stretches of each instead.
[[nodiscard]] std::string render_ranges(const Json& ranges, bool gaps, const Style& style);
[[nodiscard]] std::string render_summary(const Json& result, const Style& style);
/// "87.5", with one decimal: a per cent field.
[[nodiscard]] std::string percent_field(const Json& object, std::string_view name);
/// "10:02  activated  3001  shop/web  (pid 4242, node server.js)": one event of history or watch.
[[nodiscard]] std::string render_event(const Json& event, const Style& style);
/// The message of a refusal, with its suggestions.
[[nodiscard]] std::string render_refusal(const Json& refusal);
/// "shop/web", or "shop/web#1" for a second instance.
[[nodiscard]] std::string render_lease_name(const Json& lease);

/// A string field, made printable; empty when missing, null or of another kind.
[[nodiscard]] std::string text_field(const Json& object, std::string_view name);
/// A whole number field.
[[nodiscard]] std::optional<long long> number_field(const Json& object, std::string_view name);
/// A field that is an object or an array; null when it is not.
[[nodiscard]] const Json& inner_field(const Json& object, std::string_view name);

}  // namespace portwrap
