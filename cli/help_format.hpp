// The one form of --help for both programs: usage first, as written by hand (CLI11 2.1 can only generate it), and words by
// their label alone.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "cli11.hpp"

namespace portwrap {

constexpr const char* k_global_options = "Global options";

class HelpFormat : public CLI::Formatter {
public:
    explicit HelpFormat(std::string usage) : m_usage(std::move(usage)) {}
    std::string make_usage(const CLI::App*, std::string) const override { return "Usage: " + m_usage + '\n'; }
    std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
        return is_positional && !option->get_option_text().empty() ? option->get_option_text() : CLI::Formatter::make_option_name(option, is_positional);
    }
    std::string make_option_opts(const CLI::Option* option) const override {
        return option->get_positional() && !option->get_option_text().empty() ? std::string() : CLI::Formatter::make_option_opts(option);
    }

    std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode) const override {
        return make_description(app) + make_usage(app, std::move(name)) + make_positionals(app) + make_option_groups(app) + '\n' + make_footer(app);
    }

private:
    /// The command's own options first, those of every command after them.
    std::string make_option_groups(const CLI::App* app) const {
        auto groups = app->get_groups();
        std::stable_partition(groups.begin(), groups.end(), [](const std::string& group) { return group != k_global_options; });
        std::string text;
        for (const auto& group : groups) {
            const auto options = app->get_options([&group](const CLI::Option* option) { return option->get_group() == group && option->nonpositional(); });
            if (!group.empty() && !options.empty()) { text += make_group(group, false, options); }
        }
        return text;
    }

    std::string m_usage;
};

inline void set_usage(CLI::App& app, std::string usage) {
    app.formatter(std::make_shared<HelpFormat>(std::move(usage)));
}

}  // namespace portwrap
