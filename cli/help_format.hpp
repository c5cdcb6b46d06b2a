// The one form of --help for both programs: usage first, as written by hand (CLI11 2.1 can only generate it).
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

private:
    std::string m_usage;
};

inline void set_usage(CLI::App& app, std::string usage) {
    app.formatter(std::make_shared<HelpFormat>(std::move(usage)));
}

}  // namespace portwrap
