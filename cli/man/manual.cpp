// Builds the manual: `portwrap-manual TEMPLATE OUTPUT` copies a page and puts what the programs say of themselves in the
// place of its marks, so that no page can say something else than --help does. Runs when portwrap is built; not installed.
//
//   .\" OPTIONS portwrap      the options and examples of portwrap
//   .\" OPTIONS portctl       the options that every command takes
//   .\" COMMAND NAME          a section about the command; what follows the mark is added to it
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "cli11.hpp"
#include "command.hpp"
#include "completion.hpp"
#include "help_format.hpp"
#include "launch.hpp"

namespace portwrap {
namespace {

/// Text as roff takes it: no escapes, no requests, hyphens that can be copied.
std::string escaped(std::string_view text) {
    std::string roff;
    for (const char c : text) {
        if (c == '\\') {
            roff += "\\e";
        } else if (c == '-') {
            roff += "\\-";
        } else {
            roff += c;
        }
    }
    if (!roff.empty() && (roff[0] == '.' || roff[0] == '\'')) { roff.insert(0, "\\&"); }
    return roff;
}

/// A word of a macro's line that is not to be read as a macro.
std::string argument(std::string_view word) { return "\\&" + escaped(word); }

/// Lines of at most 76 bytes, as mandoc(1) wants them.
std::string wrapped(std::string_view sentence) {
    constexpr std::size_t k_width = 76;
    std::string roff;
    while (!sentence.empty()) {
        auto end = sentence.size() <= k_width ? sentence.size() : sentence.rfind(' ', k_width);
        if (end == std::string_view::npos) { end = std::min(sentence.find(' '), sentence.size()); }
        roff += escaped(sentence.substr(0, end)) + '\n';
        sentence.remove_prefix(std::min(end + 1, sentence.size()));
    }
    return roff;
}

/// Each sentence on a line of its own, the last one ended.
std::string paragraph(std::string text) {
    if (!text.empty() && text.back() != '.') { text += '.'; }
    std::string roff;
    std::replace(text.begin(), text.end(), '\n', ' ');
    while (!text.empty()) {
        auto end = text.find(". ");
        end = end == std::string::npos ? text.size() : end + 1;
        roff += wrapped(std::string_view(text).substr(0, end));
        text.erase(0, end == text.size() ? end : end + 1);
    }
    return roff;
}

std::string item(const CLI::Option& option) {
    std::string line = ".It";
    const auto& label = option.get_option_text();
    if (option.nonpositional()) {
        const char* separator = "";
        for (const auto& name : option.get_snames()) {
            line += std::string(separator) + " Fl " + name;
            separator = " ,";
        }
        for (const auto& name : option.get_lnames()) {
            line += std::string(separator) + " Fl -" + name;
            separator = " ,";
        }
    }
    if (!label.empty()) { line += " Ar " + argument(label); }
    return line + '\n' + paragraph(option.get_description());
}

std::string items(const CLI::App& app, bool global) {
    std::string text;
    for (const auto* option : app.get_options()) {
        if ((option->get_group() == k_global_options) == global) { text += item(*option); }
    }
    return text.empty() ? text : ".Bl -tag -width Ds\n" + text + ".El\n";
}

std::string example_block(std::string_view text) {
    std::string roff = ".Bd -literal -offset indent\n";
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size());
        auto line = text.substr(0, end);
        line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
        roff += escaped(line) + '\n';
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return roff + ".Ed\n";
}

std::string command_section(const std::string& name) {
    for (const auto& command : all_commands()) {
        if (name != command.name) { continue; }
        std::string text;
        Globals globals;
        globals.inspect = [&](const CommandForm& form) {
            text = ".Ss " + argument(name) + "\n.Dl " + argument("portctl") + ' ' + argument(form.usage) + '\n' + paragraph(form.summary) + items(form.app, false) +
                   ".Pp\nExamples:\n" + example_block(form.examples);
        };
        (void)command.run(globals, {});
        return text;
    }
    return {};
}

std::string options_of(const std::string& program) {
    std::string text;
    if (program == "portwrap") {
        (void)parse_launch_options({}, [&](const CLI::App& app) { text = items(app, false); });
    } else if (program == "portctl") {
        CLI::App app;
        Globals globals;
        bool version = false;
        add_first_options(app, globals, version);
        text = items(app, true);
    }
    return text;
}

int write_page(const char* from, const char* to) {
    std::ifstream page(from);
    std::ostringstream text;
    std::set<std::string> told;
    std::string line;
    bool has_commands = false;
    while (std::getline(page, line)) {
        std::istringstream words(line);
        std::string comment;
        std::string mark;
        std::string name;
        words >> comment >> mark >> name;
        if (comment != ".\\\"" || (mark != "OPTIONS" && mark != "COMMAND")) {
            text << line << '\n';
            continue;
        }
        const auto section = mark == "COMMAND" ? command_section(name) : options_of(name);
        if (section.empty()) {
            std::cerr << from << ": there is no " << name << " (" << mark << ")\n";
            return 1;
        }
        if (mark == "COMMAND") {
            told.insert(name);
            has_commands = true;
        }
        text << section;
    }
    for (const auto& command : all_commands()) {
        if (has_commands && !told.contains(command.name)) {
            std::cerr << from << ": the command " << command.name << " is missing (.\\\" COMMAND " << command.name << ")\n";
            return 1;
        }
    }
    std::ofstream(to) << text.str();
    return 0;
}

}  // namespace
}  // namespace portwrap

int main(int count, char** arguments) {
    if (count != 3) {
        std::cerr << "usage: portwrap-manual TEMPLATE OUTPUT\n";
        return 2;
    }
    return portwrap::write_page(arguments[1], arguments[2]);
}
