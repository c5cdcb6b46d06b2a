// Texts that belong to others and are read as far as they are understood: package scripts and commands, .env files, files
// with a block of ours in them.
#include <cstdint>

#include "core/env_cascade.hpp"
#include "core/frameworks.hpp"
#include "core/launch_words.hpp"
#include "core/shell_words.hpp"
#include "fuzz.hpp"
#include "guarded_block.hpp"
#include "system/env_files.hpp"

using namespace portwrap;

namespace {

std::size_t bytes_of(const std::vector<SimpleCommand>& commands) {
    std::size_t bytes = 0;
    for (const auto& command : commands) {
        for (const auto& text : command.words) { bytes += text.size(); }
        for (const auto& [name, value] : command.assignments) { bytes += name.size() + value.size(); }
    }
    return bytes;
}

void read_block(std::string_view text, std::string_view block) {
    for (const auto place : {BlockPlace::end, BlockPlace::after_shebang}) {
        const auto with = with_block(text, block, place);
        if (!with) { continue; }
        const auto again = with_block(*with, block, place);
        // A block that holds guards of its own is none that we write.
        if (block.find(" portwrap ") != std::string_view::npos) { continue; }
        fuzz::promise(again && *again == *with, "a block that is there already changes nothing");
        const auto without = with_block(*with, "", place);
        fuzz::promise(without.has_value(), "a block that was put in can be taken out");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto commands = simple_commands(text);
    fuzz::promise(bytes_of(commands) <= 4 * k_max_shell_text, "commands take no more room than a script may have");
    fuzz::promise(commands.size() <= k_max_shell_words, "there are no more commands than a script may have words");
    for (const auto& command : commands) { (void)simple_commands(command.words); }
    (void)simple_commands({"sh", "-c", std::string(text)});
    const auto parts = fuzz::parts_of(text);
    std::vector<std::string> words;
    for (const auto part : parts) { words.emplace_back(part); }
    const auto traits = traits_of_launch(words, parts.back(), packages_in(parts.front()), parts.size() > 2);
    fuzz::promise(traits.said != Port{0}, "a port that is said is a port");
    fuzz::promise(!traits.ends.empty() && traits.ends.back() == traits.commands.size(), "the last line ends where the commands do");
    fuzz::promise(env_files_of(traits.commands).size() <= 5 + k_max_named_env_files, "no more .env files are read than a launch may name");
    for (const auto& command : traits.commands) {
        fuzz::promise(!command.words.empty(), "a command runs something");
        (void)names_service(command, "api");
    }
    (void)is_plain_start(traits.commands, "web");
    for (const auto& entry : parse_env_file(text, ".env")) {
        fuzz::promise(!entry.name.empty() && entry.name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == std::string::npos,
                      "a variable has a name");
        fuzz::promise(entry.value.find('\n') == std::string::npos, "a value is of one line");
    }
    const auto line = parts.front().empty() ? std::string("x\n") : std::string(parts.front()) + "\n";
    read_block(parts.back(), line);
    return 0;
}
