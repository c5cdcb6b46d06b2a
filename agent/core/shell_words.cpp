#include "core/shell_words.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>

namespace portwrap {
namespace {

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

template <std::size_t N>
bool is_one_of(std::string_view word, const std::array<std::string_view, N>& words) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_assignment(std::string_view word) {
    const auto equals = word.find('=');
    if (equals == 0 || equals == std::string_view::npos) { return false; }
    const auto name = word.substr(0, equals);
    return std::isdigit(static_cast<unsigned char>(name.front())) == 0 &&
           std::all_of(name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; });
}

// Programs that run the rest of their line; of those in the second table, after the named word.
constexpr std::array<std::string_view, 15> k_runners{"env",  "cross-env", "cross-env-shell", "exec",   "nohup",   "nice",    "time", "command",
                                                     "npx",  "bunx",      "pnpx",            "dotenv", "env-cmd", "stdbuf",  "setsid"};
struct RunnerWord {
    std::string_view program;
    std::string_view word;
};
constexpr std::array k_runner_words{RunnerWord{"npm", "exec"},    RunnerWord{"npm", "x"},      RunnerWord{"pnpm", "exec"},  RunnerWord{"pnpm", "dlx"},
                                    RunnerWord{"yarn", "exec"},   RunnerWord{"yarn", "dlx"},   RunnerWord{"bun", "x"},      RunnerWord{"poetry", "run"},
                                    RunnerWord{"uv", "run"},      RunnerWord{"pipenv", "run"}, RunnerWord{"pdm", "run"},    RunnerWord{"hatch", "run"},
                                    RunnerWord{"rye", "run"},     RunnerWord{"bundle", "exec"}, RunnerWord{"dotenvx", "run"}};
// Options of the runners whose value is the next word.
constexpr std::array<std::string_view, 9> k_valued{"-n", "-u", "-e", "-f", "-p", "--package", "--env-file", "-C", "-S"};

constexpr std::array k_env_file_options{RunnerWord{"dotenv", "-e"}, RunnerWord{"dotenvx", "-f"}, RunnerWord{"dotenvx", "--env-file"}, RunnerWord{"env-cmd", "-f"},
                                        RunnerWord{"env-cmd", "--file"}, RunnerWord{"uv", "--env-file"}};

bool is_interpreter(std::string_view program, std::string_view name) {
    if (!program.starts_with(name)) { return false; }
    return program.substr(name.size()).find_first_not_of("0123456789.") == std::string_view::npos;
}

/// Takes a runner and its options off the front; false when the first word is none.
bool take_runner_off(SimpleCommand& command) {
    auto& words = command.words;
    std::size_t at = 0;
    const std::string program(file_name(words.front()));
    if (is_one_of(program, k_runners)) {
        at = 1;
    } else if (words.size() > 1 && std::any_of(k_runner_words.begin(), k_runner_words.end(), [&](const RunnerWord& runner) {
                   return runner.program == program && runner.word == words[1];
               })) {
        at = 2;
    } else {
        return false;
    }
    while (at < words.size()) {
        const std::string& word = words[at];
        if (is_assignment(word)) {
            command.assignments.emplace_back(word.substr(0, word.find('=')), word.substr(word.find('=') + 1));
        } else if (word.starts_with('-') && word.size() > 1) {
            const auto equals = word.find('=');
            const auto option = std::string_view(word).substr(0, equals);
            const bool names_file = std::any_of(k_env_file_options.begin(), k_env_file_options.end(),
                                                [&](const RunnerWord& one) { return one.program == program && one.word == option; });
            if (names_file && equals != std::string::npos) { command.env_files.push_back(word.substr(equals + 1)); }
            if (is_one_of(word, k_valued) || (names_file && equals == std::string::npos)) {
                ++at;
                if (names_file && at < words.size()) { command.env_files.push_back(words[at]); }
            }
        } else {
            break;
        }
        ++at;
    }
    words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(std::min(at, words.size())));
    return true;
}

/// `python -m flask run` runs flask, `node node_modules/.bin/next dev` runs next, `python manage.py x` runs manage.py.
void take_interpreter_off(SimpleCommand& command) {
    auto& words = command.words;
    const auto program = file_name(words.front());
    if (is_interpreter(program, "python") || is_interpreter(program, "pypy")) {
        if (words.size() > 2 && words[1] == "-m") {
            words.erase(words.begin(), words.begin() + 2);
        } else if (words.size() > 1 && file_name(words[1]) == "manage.py") {
            words.erase(words.begin());
        }
        return;
    }
    if (program == "node" && words.size() > 1) {
        const std::string& script = words[1];
        const auto modules = script.find("node_modules/");
        if (script.find("node_modules/.bin/") != std::string::npos) {
            words.erase(words.begin());
        } else if (modules != std::string::npos) {
            // node_modules/next/dist/bin/next: the package's own program
            words[1] = std::string(file_name(script));
            for (const std::string_view suffix : {".js", ".mjs", ".cjs"}) {
                if (words[1].ends_with(suffix)) { words[1].resize(words[1].size() - suffix.size()); }
            }
            words.erase(words.begin());
        }
    }
}

void finish(SimpleCommand& command, std::vector<SimpleCommand>& into) {
    auto& words = command.words;
    while (!words.empty() && is_assignment(words.front())) {
        command.assignments.emplace_back(words.front().substr(0, words.front().find('=')), words.front().substr(words.front().find('=') + 1));
        words.erase(words.begin());
    }
    while (!words.empty() && take_runner_off(command)) {}
    if (!words.empty()) {
        take_interpreter_off(command);
        words.front() = std::string(file_name(words.front()));
        into.push_back(std::move(command));
    }
    command = {};
}

}  // namespace

std::vector<SimpleCommand> simple_commands(std::string_view text) {
    std::vector<SimpleCommand> commands;
    SimpleCommand command;
    std::string word;
    bool in_word = false;
    char quote = 0;
    const auto end_word = [&] {
        if (in_word) { command.words.push_back(std::exchange(word, {})); }
        in_word = false;
    };
    for (std::size_t at = 0; at < text.size(); ++at) {
        const char c = text[at];
        const char next = at + 1 < text.size() ? text[at + 1] : '\0';
        if (quote != 0) {
            if (c == quote) {
                quote = 0;
            } else if (c == '\\' && quote == '"' && (next == '"' || next == '\\')) {
                word += text[++at];
            } else {
                word += c;
            }
            continue;
        }
        switch (c) {
            case '\'':
            case '"':
                quote = c;
                in_word = true;
                break;
            case '\\':
                if (next != '\0') { word += text[++at]; }
                in_word = true;
                break;
            case ' ':
            case '\t':
                end_word();
                break;
            case '&':
                if (next == '>' || (in_word && word.ends_with('>'))) {  // 2>&1, &>file
                    word += c;
                    in_word = true;
                    break;
                }
                end_word();
                command.beside = next != '&';
                if (next == '&') { ++at; }
                finish(command, commands);
                break;
            case ';':
            case '|':
            case '\n':
            case '(':
            case ')':
                end_word();
                finish(command, commands);
                break;
            default:
                word += c;
                in_word = true;
        }
    }
    end_word();
    finish(command, commands);
    return commands;
}

std::vector<SimpleCommand> simple_commands(const std::vector<std::string>& words) {
    constexpr std::array<std::string_view, 5> k_shells{"sh", "bash", "dash", "zsh", "ksh"};
    if (words.size() >= 3 && is_one_of(file_name(words[0]), k_shells) && words[1].starts_with('-') && words[1].ends_with('c')) {
        return simple_commands(words[2]);
    }
    std::vector<SimpleCommand> commands;
    SimpleCommand command;
    command.words = words;
    finish(command, commands);
    return commands;
}

}  // namespace portwrap
