// Publishes each project's table of remapped and refused ports (include/portwrap/remap_table.hpp), from the stream of events.
// A table is kept up to date while a session that may read it lives or a program of its project has a port, and the last
// ones of those that nobody is known to read are, too: a session's children may outlive it. A table that is closed keeps
// only what the sticky ports are, for the next time and for whoever still has it mapped. Where there are none, or the project is
// forgotten, the file is removed and the table retired: who has it mapped asks for another one.
// The runtime directory is local memory, so the files are touched on the loop: once a project, when its table is opened, and when
// somebody deletes them: then they are made anew, whole, and readers of the old ones go over to them. One that somebody truncates or
// overwrites is mended in its place, and none is written to without a look whether it has its size: the rest of a mapping is SIGBUS.
// When this thread ends, however that comes about, the kernel marks the tables that are mapped as ended (a robust list, see
// set_robust_list(2), in place of the C library's, which is not used here): no agent may be there to retire what is replaced then.
#pragma once

#include <sys/types.h>

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/connect_rules.hpp"
#include "portwrap/remap_table.hpp"
#include "service/outside.hpp"

namespace portwrap {

/// As PORTWRAP_TABLE says it: the file's name.
[[nodiscard]] std::string table_name(std::uint64_t name);

struct TableFile;

class RemapTables {
public:
    struct Options {
        std::string directory;  ///< made when it is missing, 0700
        ProcessId agent;
        std::uint64_t netns = 0;
        std::function<void(const std::string&)> log_trouble;
    };
    RemapTables(Outside& outside, Options options);
    ~RemapTables();
    RemapTables(const RemapTables&) = delete;
    RemapTables& operator=(const RemapTables&) = delete;

    /// Takes over what an earlier agent left, removes what is of no known project, and publishes what the registry says.
    void start(const Registry& registry);
    void on_event(const Event& event, const Registry& registry);

    /// The name of a project's table, which is up to date for as long as the session lives; 0 when there can be none.
    [[nodiscard]] std::uint64_t open(const std::string& root, const ProcessId& session, const Registry& registry);
    /// Whose port it is that a connect of this project's to `port` is refused; 0 when it is not.
    [[nodiscard]] LeaseId refused_by(const std::string& root, Port port) const;

    /// Files that were deleted or replaced by somebody are made anew. What stands in the way of that; empty when nothing does.
    std::string keep_in_place();
    /// The agent ends. The next one finds the files that are in their place; their readers learn that nobody writes them, and those of
    /// others find that one's.
    void leave();
    /// The project's directory is gone, or nothing is known of it any more: unless somebody uses its table, the file goes.
    void let_go(const std::string& root);

private:
    struct Published;
    Published* find_or_open(const std::string& root, const Registry& registry);
    /// Maps the table's file, made if need be, with its rows; readers of the one before go over to it.
    bool open_file(const std::string& root, Published& table);
    void note_problem(int error);
    /// It is the file in its place; of which size, which somebody may have changed.
    [[nodiscard]] bool has_its_name(const Published& table, off_t& size) const;
    /// Mends or makes anew, with its rows, what somebody has changed or deleted.
    bool put_in_place(const std::string& root, Published& table);
    void write(const TableFile& file, const std::vector<ConnectRow>& rows) const;
    /// A file that is nobody's place to look any more.
    void give_up(const TableFile& file, const std::vector<ConnectRow>& rows) const;
    /// A file that stays in its place, and that nobody writes for now.
    void end(const TableFile& file) const;
    void publish(const std::string& root, Published& table);
    [[nodiscard]] bool is_unused(const std::string& root) const;
    /// Nobody is known to read it: it is among the last of those, and the one that has been so longest may close.
    void rest_if_unused(const std::string& root);
    /// Its file stays where there are sticky ports to `keep`.
    void close(const std::string& root, bool keep = true);
    [[nodiscard]] bool make_directory();
    void watch_directory();
    /// Where another directory has taken the place of the one that was watched, what happened in between was not told.
    void mind_directory();

    Outside& m_outside;
    Options m_options;
    std::map<std::string, std::unique_ptr<Published>> m_tables;  ///< by root
    std::list<std::string> m_resting;  ///< unused since, the longest first
    std::map<std::string, std::string> m_families;  ///< what says who is whose sibling, by root
    std::pair<dev_t, ino_t> m_watched{};  ///< the directory
    bool m_is_another_directory = false;
    std::string m_problem;  ///< why a file could not be made, the last time; said once
};

}  // namespace portwrap
