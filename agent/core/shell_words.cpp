#include "core/shell_words.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <iterator>
#include <optional>

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
constexpr std::array<std::string_view, 20> k_runners{"env",    "cross-env", "cross-env-shell", "exec",    "nohup", "nice",    "ionice",  "time", "timeout", "command",
                                                     "npx",    "bunx",      "pnpx",            "dotenv",  "env-cmd", "stdbuf", "setsid", "sudo", "doas",    "corepack"};
struct RunnerWord {
    std::string_view program;
    std::string_view word;
};
constexpr std::array k_runner_words{RunnerWord{"npm", "exec"},    RunnerWord{"npm", "x"},      RunnerWord{"pnpm", "exec"},  RunnerWord{"pnpm", "dlx"},
                                    RunnerWord{"yarn", "exec"},   RunnerWord{"yarn", "dlx"},   RunnerWord{"bun", "x"},      RunnerWord{"poetry", "run"},
                                    RunnerWord{"uv", "run"},      RunnerWord{"pipenv", "run"}, RunnerWord{"pdm", "run"},    RunnerWord{"hatch", "run"},
                                    RunnerWord{"rye", "run"},     RunnerWord{"bundle", "exec"}, RunnerWord{"dotenvx", "run"}};
// Those that take the program from a registry, where a version may be asked for: next@latest.
constexpr std::array<std::string_view, 7> k_fetchers{"npx", "bunx", "pnpx", "npm", "pnpm", "yarn", "bun"};

// Options whose value is the next word, for the programs that have them: runners, interpreters, package managers, clients.
struct ValuedOptions {
    std::array<std::string_view, 6> programs;
    std::array<std::string_view, 18> options;
};
constexpr std::array k_valued{
    ValuedOptions{{"env"}, {"-u", "--unset", "-C", "--chdir", "-S"}},
    ValuedOptions{{"nice", "ionice"}, {"-n", "--adjustment", "-c", "--class", "--classdata"}},
    ValuedOptions{{"time", "timeout"}, {"-f", "-o", "-s", "--signal", "-k", "--kill-after"}},
    ValuedOptions{{"stdbuf"}, {"-i", "-o", "-e"}},
    ValuedOptions{{"sudo", "doas"}, {"-u", "-g", "-h", "-p", "-C", "-D", "-r", "-t", "-R", "-T", "-U", "--user", "--group", "--chdir"}},
    ValuedOptions{{"npx", "bunx", "pnpx"}, {"-p", "--package", "-c", "--call"}},
    ValuedOptions{{"dotenv", "dotenvx", "env-cmd"}, {"-e", "-f", "--file", "--env-file", "--env", "-v", "-r", "--rc-file", "--environments"}},
    ValuedOptions{{"uv"}, {"-p", "--python", "--with", "--extra", "--group", "--package", "--env-file", "--project", "--directory"}},
    ValuedOptions{{"npm"}, {"--prefix", "-C", "-w", "--workspace", "-p", "--package", "--loglevel", "--script-shell", "--userconfig"}},
    ValuedOptions{{"pnpm", "yarn"}, {"--dir", "--cwd", "-C", "--filter", "-F", "--package", "-p", "--loglevel", "--config"}},
    ValuedOptions{{"make", "gmake", "rake", "just", "task"}, {"-C", "--directory", "-f", "--file", "--makefile", "-I", "-d", "--dir", "-t", "--taskfile", "--justfile"}},
    ValuedOptions{{"composer"}, {"-d", "--working-dir"}},
    ValuedOptions{{"node", "nodejs", "tsx", "bun"},
                  {"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--env-file", "--env-file-if-exists", "--title",
                   "--watch-path", "--input-type", "--tsconfig", "--include", "--exclude", "--preload", "--cwd", "--filter"}},
    ValuedOptions{{"ts-node", "ts-node-esm", "ts-node-dev", "tsnd"},
                  {"-P", "--project", "-r", "--require", "-O", "--compiler-options", "-C", "--compiler", "-I", "--ignore", "-D", "--ignore-diagnostics", "--cwd",
                   "--watch", "--ignore-watch", "--interval"}},
    ValuedOptions{{"nodemon"},
                  {"-w", "--watch", "-i", "--ignore", "-e", "--ext", "-d", "--delay", "-x", "--exec", "-s", "--signal", "--config", "--cwd"}},
    ValuedOptions{{"python", "pypy"}, {"-X", "-W"}},
    ValuedOptions{{"ruby", "perl"}, {"-r", "-I", "-C"}},
    ValuedOptions{{"deno"}, {"-c", "--config", "--import-map", "--cert", "--lock"}},
    ValuedOptions{{"docker", "podman", "nerdctl", "docker-compose", "podman-compose"},
                  {"-H", "--host", "-c", "--context", "--config", "-l", "--log-level", "--connection", "-f", "--file", "-p", "--project-name", "--profile",
                   "--env-file", "--project-directory", "--ansi", "--progress", "--parallel"}},
};

// Options whose value is a command in one word.
constexpr std::array k_texts{RunnerWord{"nodemon", "-x"}, RunnerWord{"nodemon", "--exec"}, RunnerWord{"npx", "-c"}, RunnerWord{"npx", "--call"}, RunnerWord{"env", "-S"}};

constexpr std::array k_env_file_options{RunnerWord{"dotenv", "-e"}, RunnerWord{"dotenvx", "-f"}, RunnerWord{"dotenvx", "--env-file"}, RunnerWord{"env-cmd", "-f"},
                                        RunnerWord{"env-cmd", "--file"}, RunnerWord{"uv", "--env-file"},
                                        RunnerWord{"node", "--env-file"}, RunnerWord{"node", "--env-file-if-exists"}};

template <typename Table>
bool is_option_of(const Table& table, std::string_view program, std::string_view option) {
    return std::any_of(table.begin(), table.end(), [&](const RunnerWord& one) { return one.program == program && one.word == option; });
}

bool is_interpreter(std::string_view program, std::string_view name) {
    if (!program.starts_with(name)) { return false; }
    return program.substr(name.size()).find_first_not_of("0123456789.") == std::string_view::npos;
}

bool takes_value(std::string_view program, std::string_view option) {
    if (option.size() < 2) { return false; }
    if (is_interpreter(program, "python")) { program = "python"; }
    if (is_interpreter(program, "pypy")) { program = "pypy"; }
    return std::any_of(k_valued.begin(), k_valued.end(),
                       [&](const ValuedOptions& one) { return is_one_of(program, one.programs) && is_one_of(option, one.options); });
}

/// Notes a file that an option names (`--env-file .env.dev`, `--env-file=.env.dev`).
void note_env_file(SimpleCommand& command, std::string_view program, std::size_t at) {
    const std::string& word = command.words[at];
    const auto equals = word.find('=');
    if (!is_option_of(k_env_file_options, program, std::string_view(word).substr(0, equals))) { return; }
    if (equals != std::string::npos) {
        command.env_files.push_back(word.substr(equals + 1));
    } else if (at + 1 < command.words.size()) {
        command.env_files.push_back(command.words[at + 1]);
    }
}

void take_off(SimpleCommand& command, std::size_t count) {
    auto& words = command.words;
    words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(std::min(count, words.size())));
}

void add_assignment(SimpleCommand& command, const std::string& word) {
    const auto equals = word.find('=');
    command.assignments.emplace_back(word.substr(0, equals), word.substr(equals + 1));
}

/// Goes from a runner at `from` over it and its options to what it runs; false when there is none at `from`.
bool pass_runner(SimpleCommand& command, std::size_t& from) {
    auto& words = command.words;
    std::size_t at = from;
    const std::string program(file_name(words[at]));
    if (is_one_of(program, k_runners)) {
        at += 1;
    } else if (at + 1 < words.size() && is_option_of(k_runner_words, program, words[at + 1])) {
        at += 2;
    } else {
        return false;
    }
    for (; at < words.size(); ++at) {
        const std::string& word = words[at];
        if (is_assignment(word)) {
            add_assignment(command, word);
        } else if (word.starts_with('-') && word.size() > 1) {
            note_env_file(command, program, at);
            if (takes_value(program, word)) { ++at; }
        } else if (program != "dotenv" || word != "run") {  // `dotenv run` is python-dotenv's
            break;
        }
    }
    if (program == "timeout") { ++at; }  // its duration
    from = std::min(at, words.size());
    if (from < words.size() && is_one_of(program, k_fetchers)) {
        // next@latest, @craco/craco@7: without the version
        std::string& name = words[from];
        const auto version = name.find('@', 1);
        if (version != std::string::npos) { name.resize(version); }
    }
    return true;
}

// Options of node after which no file comes.
constexpr std::array<std::string_view, 6> k_node_texts{"-", "-e", "--eval", "-p", "--print", "-pe"};

/// `python -u -m flask run` runs flask, `node --inspect node_modules/.bin/next dev` runs next, `python manage.py x` manage.py;
/// of an interpreter that runs another text nothing stays between its name and the text's.
void take_interpreter_off(SimpleCommand& command) {
    auto& words = command.words;
    const std::string program(file_name(words.front()));
    const bool python = is_interpreter(program, "python") || is_interpreter(program, "pypy");
    if (!python && program != "node" && program != "nodejs") { return; }
    std::size_t at = 1;
    for (; at < words.size() && words[at].starts_with('-'); ++at) {
        const std::string& word = words[at];
        // `-m` may close several options in one word: -um
        if (python && word.ends_with('m') && word[1] != '-' && word[1] != 'X' && word[1] != 'W') {
            if (at + 1 < words.size()) { take_off(command, at + 1); }
            return;
        }
        if (python ? word == "-" || word == "-c" : is_one_of(word, k_node_texts) || word.starts_with("--run") || word.starts_with("--test")) { return; }
        note_env_file(command, "node", at);
        if (takes_value(program, word)) { ++at; }
    }
    if (at >= words.size()) { return; }
    words.erase(words.begin() + 1, words.begin() + static_cast<std::ptrdiff_t>(at));
    std::string& script = words[1];
    if (python) {
        if (file_name(script) == "manage.py") { take_off(command, 1); }
        return;
    }
    if (script.find("node_modules/") == std::string::npos) { return; }
    if (script.find("node_modules/.bin/") == std::string::npos) {
        // node_modules/next/dist/bin/next: the package's own program
        script = std::string(file_name(script));
        for (const std::string_view suffix : {".js", ".mjs", ".cjs"}) {
            if (script.ends_with(suffix)) { script.resize(script.size() - suffix.size()); }
        }
    }
    take_off(command, 1);
}

/// What may still be read of a text: each word has its place, each copy of one, too.
struct Room {
    std::size_t words = k_max_shell_words;
    std::size_t bytes = 4 * k_max_shell_text;
    bool exceeded = false;

    void take(std::size_t size) {
        exceeded = exceeded || words == 0 || bytes < size;
        if (exceeded) { return; }
        --words;
        bytes -= size;
    }
};

void read_text(std::string_view text, Room& room, std::vector<SimpleCommand>& into);

/// The command that a word of this one, whose program is at `from`, holds (`sh -c TEXT`, `nodemon --exec TEXT FILE`): its simple commands.
std::optional<std::vector<SimpleCommand>> commands_in_text(const SimpleCommand& command, std::size_t from, Room& room) {
    constexpr std::array<std::string_view, 5> k_shells{"sh", "bash", "dash", "zsh", "ksh"};
    const auto& words = command.words;
    const auto program = file_name(words[from]);
    std::size_t at = from + 1;
    std::vector<SimpleCommand> inner;
    if (is_one_of(program, k_shells)) {
        while (at < words.size() && words[at].starts_with('-') && !words[at].ends_with('c')) { ++at; }
        if (at + 1 >= words.size() || !words[at].starts_with('-') || words[at].starts_with("--")) { return std::nullopt; }
        read_text(words[at + 1], room, inner);
        return inner;
    }
    for (; at < words.size() && words[at].starts_with('-'); at += takes_value(program, words[at]) ? 2U : 1U) {
        const auto equals = words[at].find('=');
        const bool here = equals != std::string::npos && words[at].starts_with("--");
        if (!is_option_of(k_texts, program, std::string_view(words[at]).substr(0, here ? equals : std::string::npos))) { continue; }
        if (!here && at + 1 >= words.size()) { return std::nullopt; }
        read_text(here ? std::string_view(words[at]).substr(equals + 1) : std::string_view(words[at + 1]), room, inner);
        for (at += here ? 1U : 2U; at < words.size() && words[at].starts_with('-');) { at += takes_value(program, words[at]) ? 2U : 1U; }
        if (!inner.empty() && at < words.size()) { inner.back().words.insert(inner.back().words.end(), words.begin() + static_cast<std::ptrdiff_t>(at), words.end()); }
        return inner;
    }
    return std::nullopt;
}

/// Each of the commands in a text that `outer` gives to a shell gets what that one was given.
void hand_down(const SimpleCommand& outer, Room& room, std::vector<SimpleCommand>& inner) {
    for (auto& one : inner) {
        for (const auto& [name, value] : outer.assignments) { room.take(name.size() + value.size()); }
        for (const auto& file : outer.env_files) { room.take(file.size()); }
        if (room.exceeded) { return; }
        one.assignments.insert(one.assignments.begin(), outer.assignments.begin(), outer.assignments.end());
        one.env_files.insert(one.env_files.begin(), outer.env_files.begin(), outer.env_files.end());
    }
    if (!inner.empty() && outer.beside) { inner.back().beside = true; }
}

void finish(SimpleCommand& command, Room& room, std::vector<SimpleCommand>& into) {
    auto& words = command.words;
    std::size_t at = 0;
    for (; at < words.size() && is_assignment(words[at]); ++at) { add_assignment(command, words[at]); }
    std::optional<std::vector<SimpleCommand>> inner;
    while (at < words.size() && !(inner = commands_in_text(command, at, room)) && pass_runner(command, at)) {}
    if (inner) {
        hand_down(command, room, *inner);
        std::move(inner->begin(), inner->end(), std::back_inserter(into));
    } else if (at < words.size()) {
        take_off(command, at);
        take_interpreter_off(command);
        words.front() = std::string(file_name(words.front()));
        into.push_back(std::move(command));
    }
    command = {};
}

void read_text(std::string_view text, Room& room, std::vector<SimpleCommand>& into) {
    if (text.size() > k_max_shell_text) { room.exceeded = true; }
    SimpleCommand command;
    std::string word;
    bool in_word = false;
    char quote = 0;
    const auto end_word = [&] {
        if (in_word) {
            room.take(word.size());
            command.words.push_back(std::exchange(word, {}));
        }
        in_word = false;
    };
    for (std::size_t at = 0; at < text.size() && !room.exceeded; ++at) {
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
                finish(command, room, into);
                break;
            case ';':
            case '|':
            case '\n':
            case '(':
            case ')':
                end_word();
                finish(command, room, into);
                break;
            default:
                word += c;
                in_word = true;
        }
    }
    end_word();
    finish(command, room, into);
}

}  // namespace

std::vector<SimpleCommand> simple_commands(std::string_view text) {
    std::vector<SimpleCommand> commands;
    Room room;
    read_text(text, room, commands);
    if (room.exceeded) { commands.clear(); }
    return commands;
}

std::vector<std::vector<SimpleCommand>> simple_commands_of_lines(std::string_view text) {
    std::vector<std::vector<SimpleCommand>> lines;
    Room room;
    if (text.size() > k_max_shell_text) { return lines; }
    while (!text.empty() && !room.exceeded) {
        const auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        room.take(0);
        read_text(line, room, lines.emplace_back());
    }
    if (room.exceeded) { lines.clear(); }
    return lines;
}

std::vector<SimpleCommand> simple_commands(const std::vector<std::string>& words) {
    std::vector<SimpleCommand> commands;
    Room room;
    SimpleCommand command;
    command.words = words;
    finish(command, room, commands);
    if (!room.exceeded) { return commands; }
    // The text that a shell is given is beyond all reading: it is the shell that runs.
    command.words = words;
    command.words.front() = std::string(file_name(words.front()));
    return {command};
}

std::size_t first_operand(const SimpleCommand& command, std::size_t from) {
    const auto& words = command.words;
    const auto program = file_name(words.front());
    std::size_t at = from;
    while (at < words.size() && words[at].starts_with('-')) { at += takes_value(program, words[at]) ? 2U : 1U; }
    return std::min(at, words.size());
}

std::string_view variable_default(std::string_view text, std::string_view name) {
    constexpr std::string_view k_open = "${";
    std::string_view found;
    for (auto at = text.find(k_open); at != std::string_view::npos; at = text.find(k_open)) {
        text.remove_prefix(at + k_open.size());
        auto rest = text;
        if (!rest.starts_with(name)) { continue; }
        rest.remove_prefix(name.size());
        if (rest.starts_with(':')) { rest.remove_prefix(1); }
        if (!rest.starts_with('-')) { continue; }
        const auto end = rest.find_first_of("}$");
        if (end != std::string_view::npos && rest[end] == '}') { found = rest.substr(1, end - 1); }
    }
    return found;
}

}  // namespace portwrap
