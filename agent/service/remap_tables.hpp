// Publishes each project's table of remapped and refused ports (include/portwrap/remap_table.hpp), from the stream of events.
// A table is kept up to date while a session that may read it lives or a program of its project has a port, and the last
// ones of those that nobody is known to read are, too: a session's children may outlive it. A table that is closed keeps
// only what the sticky ports are. Its file stays, for the next time and for whoever still has it mapped.
// The runtime directory is local memory, so the files are touched on the loop: once a project, when its table is opened.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "core/connect_rules.hpp"

namespace portwrap {

/// As PORTWRAP_TABLE says it: the file's name.
[[nodiscard]] std::string table_name(std::uint64_t name);

class RemapTables {
public:
    struct Options {
        std::string directory;  ///< made when it is missing, 0700
        ProcessId agent;
        std::uint64_t netns = 0;
        std::function<void(const std::string&)> log_trouble;
    };
    explicit RemapTables(Options options);
    ~RemapTables();
    RemapTables(const RemapTables&) = delete;
    RemapTables& operator=(const RemapTables&) = delete;

    /// Takes over what an earlier agent left, and publishes what the registry says.
    void start(const Registry& registry);
    void on_event(const Event& event, const Registry& registry);

    /// The name of a project's table, which is up to date for as long as the session lives; 0 when there can be none.
    [[nodiscard]] std::uint64_t open(const std::string& root, const ProcessId& session, const Registry& registry);
    /// Whose port it is that a connect of this project's to `port` is refused; 0 when it is not.
    [[nodiscard]] LeaseId refused_by(const std::string& root, Port port) const;

private:
    struct Published;
    Published* find_or_open(const std::string& root, const Registry& registry);
    void publish(Published& table);
    [[nodiscard]] bool is_unused(const std::string& root) const;
    /// Nobody is known to read it: it is among the last of those, and the one that has been so longest may close.
    void rest_if_unused(const std::string& root);
    void close(const std::string& root);
    [[nodiscard]] bool make_directory() const;

    Options m_options;
    std::map<std::string, std::unique_ptr<Published>> m_tables;  ///< by root
    std::list<std::string> m_resting;  ///< unused since, the longest first
    std::map<std::string, std::string> m_families;  ///< what says who is whose sibling, by root
};

}  // namespace portwrap
