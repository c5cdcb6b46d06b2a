// A directory that removes itself, with files of the test's choice and real repositories made by git.
#pragma once

#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace portwrap::test {

namespace fs = std::filesystem;

class Scratch {
public:
    Scratch() {
        std::string pattern = (fs::temp_directory_path() / "portwrap-places-XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        m_path = fs::canonical(pattern);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() {
        std::error_code ignored;
        fs::remove_all(m_path, ignored);
    }
    [[nodiscard]] std::string at(const std::string& name) const { return name.empty() ? m_path.string() : (m_path / name).string(); }
    std::string directory(const std::string& name) const {
        fs::create_directories(m_path / name);
        return at(name);
    }
    void file(const std::string& name, const std::string& text = "") const {
        fs::create_directories((m_path / name).parent_path());
        std::ofstream(m_path / name, std::ios::binary) << text;
        REQUIRE(fs::exists(m_path / name));
    }
    /// Runs git in a directory; its output goes nowhere.
    void git(const std::string& name, const std::vector<std::string>& arguments) const {
        const std::string directory = at(name);
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            std::vector<std::string> words{"git", "-C", directory, "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"};
            words.insert(words.end(), arguments.begin(), arguments.end());
            std::vector<char*> pointers;
            for (auto& word : words) { pointers.push_back(word.data()); }
            pointers.push_back(nullptr);
            ::setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
            ::setenv("GIT_CONFIG_SYSTEM", "/dev/null", 1);
            for (const char* who : {"AUTHOR", "COMMITTER"}) {
                ::setenv((std::string("GIT_") + who + "_NAME").c_str(), "T", 1);
                ::setenv((std::string("GIT_") + who + "_EMAIL").c_str(), "t@example.org", 1);
            }
            if (::freopen("/dev/null", "w", stdout) == nullptr || ::freopen("/dev/null", "w", stderr) == nullptr) { ::_exit(99); }
            ::execvp("git", pointers.data());
            ::_exit(127);
        }
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        INFO("git " << arguments.front() << " in " << directory);
        REQUIRE(status == 0);
    }
    void repository(const std::string& name) const {
        directory(name);
        git(name, {"init", "-q"});
        git(name, {"commit", "-q", "--allow-empty", "-m", "first"});
    }

private:
    fs::path m_path;
};

}  // namespace portwrap::test
