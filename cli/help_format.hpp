// The one form of --help for both programs: usage first, as written by hand (CLI11 2.1 can only generate it), and words by
// their label alone.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>

namespace portwrap {

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

private:
    std::string m_usage;
};

inline void set_usage(CLI::App& app, std::string usage) {
    app.formatter(std::make_shared<HelpFormat>(std::move(usage)));
}

}  // namespace portwrap
