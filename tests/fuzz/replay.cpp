// The fuzz targets without libFuzzer, in the ordinary build: every input of the corpora, then mutations of them, so many or for so
// long for each target. Finds less than a fuzzer that sees what it reaches (run.sh beside this file), but on every run of the tests, with gcc.
//
//     fuzz_replay [--mutations N] [--seconds N] [--seed N] [--target NAME] [DIRECTORY...]
//
// Each directory has a corpus for each target below its name. The same seed gives the same inputs in the same order; one that ends
// the program by a signal is written to the working directory as fuzz-finding.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

extern "C" {
int fuzz_wire(const std::uint8_t*, std::size_t);
int fuzz_shim_reply(const std::uint8_t*, std::size_t);
int fuzz_project_config(const std::uint8_t*, std::size_t);
int fuzz_project_files(const std::uint8_t*, std::size_t);
int fuzz_journal(const std::uint8_t*, std::size_t);
int fuzz_snapshot(const std::uint8_t*, std::size_t);
int fuzz_recovery(const std::uint8_t*, std::size_t);
int fuzz_imports(const std::uint8_t*, std::size_t);
int fuzz_user_config(const std::uint8_t*, std::size_t);
int fuzz_texts(const std::uint8_t*, std::size_t);
}

namespace {

struct Target {
    std::string_view name;
    int (*run)(const std::uint8_t*, std::size_t);
};
constexpr std::array<Target, 10> k_targets{{{"wire", fuzz_wire},
                                            {"shim_reply", fuzz_shim_reply},
                                            {"project_config", fuzz_project_config},
                                            {"project_files", fuzz_project_files},
                                            {"journal", fuzz_journal},
                                            {"snapshot", fuzz_snapshot},
                                            {"recovery", fuzz_recovery},
                                            {"imports", fuzz_imports},
                                            {"user_config", fuzz_user_config},
                                            {"texts", fuzz_texts}}};

std::string read_input(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// Changes as a fuzzer makes them, blind.
class Mutator {
public:
    explicit Mutator(std::uint64_t seed) : m_random(seed) {}

    std::string mutation_of(const std::vector<std::string>& corpus) {
        auto text = corpus[below(corpus.size())];
        for (auto steps = 1 + below(6); steps > 0; --steps) { change(text, corpus); }
        constexpr std::size_t k_longest = 16384;
        if (text.size() > k_longest) { text.resize(k_longest); }
        return text;
    }

private:
    std::size_t below(std::size_t bound) { return bound == 0 ? 0 : static_cast<std::size_t>(m_random() % bound); }

    std::string piece_of(const std::string& text) {
        const auto begin = below(text.size());
        return text.substr(begin, 1 + below(std::min<std::size_t>(64, text.size())));
    }

    void change(std::string& text, const std::vector<std::string>& corpus) {
        static constexpr std::array<std::string_view, 20> k_words{
            "0", "-1", "65535", "65536", "70000", "80.9", "1e9", "18446744073709551616", "true", "null", "\"\"", "[", "{", "]", "}", "\n%%\n",
            "\\u0000", "\xff", "\x1b[2J", "\xc2\x9b"};
        const auto at = below(text.size() + 1);
        switch (below(8)) {
            case 0:
                if (at < text.size()) { text[at] = static_cast<char>(static_cast<unsigned char>(text[at]) ^ (1U << below(8))); }
                break;
            case 1:
                if (at < text.size()) { text[at] = static_cast<char>(below(256)); }
                break;
            case 2: text.erase(at, 1 + below(32)); break;
            case 3: text.insert(at, k_words[below(k_words.size())]); break;
            case 4: text.insert(at, piece_of(text)); break;
            case 5: text.insert(at, piece_of(corpus[below(corpus.size())])); break;
            case 6: {
                // A number or word becomes another one.
                const auto begin = text.find_first_of("0123456789", at);
                if (begin == std::string::npos) { break; }
                const auto end = text.find_first_not_of("0123456789", begin);
                text.replace(begin, (end == std::string::npos ? text.size() : end) - begin, k_words[below(k_words.size())]);
                break;
            }
            default: text.resize(at); break;
        }
    }

    std::mt19937_64 m_random;
};

/// What is being run, for whoever must write it down when it ends the program.
std::string_view g_running;

void keep_finding(int signal) {
    const int fd = ::open("fuzz-finding", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    [[maybe_unused]] const auto written = ::write(fd, g_running.data(), g_running.size());
    ::signal(signal, SIG_DFL);
    ::raise(signal);
}

void run(const Target& target, const std::string& text) {
    // In a buffer that ends where the input ends, so that a sanitizer sees a read beyond it.
    const std::vector<std::uint8_t> bytes(text.begin(), text.end());
    g_running = text;
    target.run(bytes.data(), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
    std::size_t mutations = 0;
    std::chrono::seconds duration{0};
    std::uint64_t seed = std::random_device{}();
    std::string_view only;
    std::vector<std::filesystem::path> directories;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        const bool has_value = i + 1 < argc;
        if (word == "--mutations" && has_value) {
            mutations = std::strtoull(argv[++i], nullptr, 10);
        } else if (word == "--seconds" && has_value) {
            duration = std::chrono::seconds(std::strtoll(argv[++i], nullptr, 10));
        } else if (word == "--seed" && has_value) {
            seed = std::strtoull(argv[++i], nullptr, 10);
        } else if (word == "--target" && has_value) {
            only = argv[++i];
        } else {
            directories.emplace_back(word);
        }
    }
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) { std::signal(signal, keep_finding); }
    std::cout << "seed " << seed << std::endl;
    for (const auto& target : k_targets) {
        if (!only.empty() && only != target.name) { continue; }
        std::vector<std::string> corpus;
        for (const auto& directory : directories) {
            std::error_code missing;
            for (const auto& entry : std::filesystem::directory_iterator(directory / target.name, missing)) { corpus.push_back(read_input(entry.path())); }
        }
        if (corpus.empty()) {
            std::cout << target.name << ": no corpus" << std::endl;
            return 1;
        }
        std::sort(corpus.begin(), corpus.end());
        std::cout << target.name << ": " << std::flush;
        for (const auto& input : corpus) { run(target, input); }
        Mutator mutator(seed);
        const auto end = std::chrono::steady_clock::now() + duration;
        std::size_t mutated = 0;
        for (; mutated < mutations || std::chrono::steady_clock::now() < end; ++mutated) { run(target, mutator.mutation_of(corpus)); }
        std::cout << corpus.size() + mutated << " executions" << std::endl;
    }
    return 0;
}
