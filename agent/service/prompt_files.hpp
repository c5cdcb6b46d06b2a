// Publishes what shell prompts show (core/segment.hpp): one small file a project, below the runtime directory at a path
// that mirrors the project's root. A prompt reads it with the shell's own means; include/portwrap/paths.hpp says where it is.
//
// The files are written by the loop itself: the runtime directory is memory, and a file of twenty bytes costs less there
// than the way to the pool and back. They are written a moment after the events, so that a burst of events is one file.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <unordered_map>

#include "core/registry.hpp"
#include "service/outside.hpp"

namespace portwrap {

class PromptFiles {
public:
    struct Options {
        std::string directory;  ///< made when it is needed, 0700
        pid_t agent = 0;        ///< written into each file: while no such process lives, the file says nothing
        std::function<void(const std::string&)> log_trouble;
    };
    PromptFiles(Outside& outside, Options options);

    /// Removes what an earlier agent left, and publishes what the registry says. The registry must outlive this.
    void start(const Registry& registry);
    void on_event(const Event& event, const Registry& registry);
    /// Removes all files: nobody keeps them true any more.
    void close();

private:
    void mark(const std::string& root, const Registry& registry);
    void publish(const std::string& root, const Registry& registry);
    void write(const std::string& root, const std::string& segment);
    void remove(const std::string& root);

    Outside& m_outside;
    Options m_options;
    std::unordered_map<LeaseId, std::string> m_roots;          ///< of live leases
    std::unordered_map<std::string, std::string> m_published;  ///< segments by root
    std::set<std::string> m_due;
    std::function<void()> m_cancel;  ///< set while a publication is due
    bool m_in_trouble = false;       ///< said once
};

}  // namespace portwrap
