// The agent without its loop: requests in, decisions, events, replies out. Everything happens on one thread, except the
// work that it hands to the pool. docs/architecture.md follows one request through this house.
#pragma once

#include <deque>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <unordered_map>
#include <unordered_set>

#include "core/policy.hpp"
#include "core/project_memory.hpp"
#include "core/range_usage.hpp"
#include "service/file_jobs.hpp"
#include "service/known_processes.hpp"
#include "service/outside.hpp"
#include "service/prompt_files.hpp"
#include "service/remap_tables.hpp"
#include "service/shapes.hpp"
#include "service/unanswered.hpp"
#include "service/wire.hpp"
#include "storage/store.hpp"
#include "system/listeners.hpp"
#include "system/root_commit.hpp"
#include "system/root_watch.hpp"
#include "system/user_config.hpp"

namespace portwrap {

/// One connection's part of a conversation with the shim.
struct Exchange {
    Peer peer;
    std::optional<Caller> caller;
    BindRequest bind;
    LeaseId lease = 0;   ///< granted in this exchange and not yet confirmed
    bool talking = false; ///< has asked something
    bool closed = false; ///< the peer hung up: what it asked for need not be decided
};

class Agent {
public:
    struct Options {
        UserConfig user;            ///< as read at the start
        std::string config_path;    ///< of the user's config, read again on reload
        std::string config_problem; ///< why it could not be used at the start; empty when it could
        ConfigVariables variables;  ///< of the environment, read once
        std::string home;
        std::string user_at_host;  ///< of allocated_by
        std::string boot_id;
        std::string socket;
        std::string state;             ///< the registry's directory
        std::vector<std::string> losses;  ///< of the registry, found at the start
        std::string tables;  ///< directory of the published remap tables
        std::string prompts; ///< directory of the segments for prompts
        std::uint64_t netns = 0;  ///< SO_NETNS_COOKIE of this process, 0 when unknown
        std::function<void(const std::string&)> log;        ///< one line, for an event worth a line
        std::function<void(const std::string&)> log_trouble;
        std::function<void(const std::string&)> set_log_level;  ///< may be empty
        bool log_level_given = false;  ///< on the command line: then the config's is not followed
    };
    Agent(Outside& outside, std::unique_ptr<Store> store, Registry registry, Options options);

    /// Compares the recovered registry with the living processes and sockets.
    void start();

    /// One line of a connection. The reply comes now or later; until then the connection's next line must wait.
    void on_line(const std::shared_ptr<Exchange>& exchange, std::string_view line, ReplyTo reply);
    /// False while lines that wait for something take much memory: then this one is not to be decided yet.
    [[nodiscard]] bool has_room_for(std::string_view line) const;
    void on_closed(const std::shared_ptr<Exchange>& exchange);

    void on_sockets_destroyed(const DestroyWatch::Batch& batch);
    void on_process_ended(const ProcessId& process);
    void on_timer();
    /// The loop has done all that there was to do and is about to wait.
    void on_turn_ended();
    /// Reads the user's config again; one that is wrong is reported, and the last good one stays.
    void reload_config(std::function<void()> then = {});
    /// The store's sync state has changed.
    void on_synced();
    /// A last snapshot; nothing may be asked afterwards.
    void close();

    [[nodiscard]] const Registry& registry() const { return m_registry; }

    /// The stream of events: every change of the registry, after it was applied.
    using Watcher = std::function<void(const Event&, const Registry&)>;
    void watch(Watcher watcher) { m_watchers.push_back(std::move(watcher)); }

private:
    using Handler = void (Agent::*)(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    struct Method {
        std::string_view name;
        Handler handler;
    };
    /// Each group of requests has its table beside its handlers; on_line looks through them in this order.
    [[nodiscard]] static std::span<const Method> shim_methods();
    [[nodiscard]] static std::span<const Method> session_methods();
    [[nodiscard]] static std::span<const Method> lease_methods();
    [[nodiscard]] static std::span<const Method> port_methods();
    [[nodiscard]] static std::span<const Method> exchange_methods();
    [[nodiscard]] static std::span<const Method> range_methods();
    [[nodiscard]] static std::span<const Method> care_methods();
    [[nodiscard]] static std::span<const Method> health_methods();
    [[nodiscard]] static std::span<const Method> event_methods();
    [[nodiscard]] static std::span<const Method> agent_methods();
    [[nodiscard]] static std::span<const Method> config_methods();
    [[nodiscard]] static Handler find_handler(std::string_view method);
    /// What becomes of a lease when the disk refuses a change: `before` again, unless it is no longer as the change left it.
    struct Undo {
        LeaseId id = 0;
        std::optional<Lease> after;
        std::optional<Lease> before;
    };
    struct WaitingReply {
        std::uint64_t seq = 0;
        std::string line;
        Json id;
        ReplyTo reply;
        std::vector<Undo> undo;
    };
    /// A connection that gets every event of a project, or of all.
    struct Stream {
        std::shared_ptr<Exchange> exchange;
        ReplyTo reply;
        std::optional<std::string> root;
    };
    /// Somebody who waits until a port is listened on.
    struct Wait {
        std::shared_ptr<Exchange> exchange;
        Json id;  ///< of its request
        ReplyTo reply;
        std::string root;  ///< of the project that asks
        std::optional<Port> port;
        std::optional<std::string> service;
        std::function<void()> cancel = [] {};      ///< its deadline
        std::optional<std::uint64_t> last_look{};  ///< it is past: this look answers, whatever it sees
    };
    /// What somebody waits for, as far as it is known.
    struct Awaited {
        const Lease* lease = nullptr;
        std::optional<Port> port{};
    };
    struct PlaceRead {
        std::shared_ptr<const std::string> directory;  ///< its key's text
        std::vector<std::function<void(const Place*)>> waiters;
        bool late = false;  ///< its file system does not answer: nobody waits for it any more
    };
    struct KnownPlace {
        Place place;
        Time read_at{};
    };

    void agent_status(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void agent_stop(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_get(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_list(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_port(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_allocate(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_register(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_reserve(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_update(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_transfer(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_url(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_release(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void port_check(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_history(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_watch(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_wait(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void session_members(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void agent_doctor(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void agent_log_level(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void port_who(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void exchange_export(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void exchange_import(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    struct ImportJob;
    void drop_closed_imports();
    /// Refuses what waits while no other import comes to its end: one of them hangs. A crowd of them is slow although all is well.
    void limit_import_wait(const std::shared_ptr<ImportJob>& job);
    void start_import();
    void answer_import(ImportJob& job);
    void exchange_template(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void range_list(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void range_next(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void range_summary(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_audit(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_cleanup(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void lease_health(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    /// What a check of one lease said.
    struct HealthResult {
        Time at{};
        Health health = Health::unknown;
        std::optional<double> response_ms;
        std::string error;
    };
    struct HealthJob;
    /// Probes in the pool, all at once; what they said becomes the leases' health and history before `then`. Who asks for what is
    /// being checked already, of the same sockets, waits for that. `root`: the project that asks; empty for all of them.
    void check_health(const std::shared_ptr<HealthJob>& job, const std::string& root, std::function<void()> then);
    void add_to_health_job(HealthJob& job, const Place& place, const std::optional<std::string>& service, bool listening_only, std::optional<std::chrono::milliseconds> timeout) const;
    [[nodiscard]] Json health_shape(const HealthResult& result) const;
    /// Checks of their own, while the config asks for them and something listens.
    void mind_health();
    void check_all_health();
    void project_show(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void project_provision(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void session_open(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void shim_bind(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void shim_failed(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void shim_bound(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void shim_listening(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void shim_table(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void shim_refused(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);

    void config_show(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void answer_config(const Request& request, const ReplyTo& reply, const std::string& news) const;
    /// What a user config at `path` says, or why it cannot be read: first perhaps that it is not read in time, and what it says when that is known.
    void read_config(const std::string& path, std::function<void(Result<UserConfig>)> then);
    /// What is wrong with the config's file as it is now, or that it is not the one in use; "" when it is.
    void with_config_news(std::function<void(const std::string&)> then);
    void answer_doctor(const Request& request, const ReplyTo& reply, const std::string& config_news);
    void config_validate(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    void config_reload(const std::shared_ptr<Exchange>&, const Request&, const ReplyTo&);
    /// Tells watchers and waiters what was committed; `forgotten` are the leases as they were.
    void publish(const std::vector<Event>& events, const std::map<LeaseId, Lease>& forgotten);
    [[nodiscard]] Awaited awaited(const Wait& wait) const;
    /// True when it has been answered. `heard` are ports that were seen to be listened on, by whomever; `at_last`: the answer is due.
    bool answer_wait(const Wait& wait, const std::set<Port>& heard, bool at_last);
    void answer_waits(const std::function<bool(const Wait&)>& concerns, const std::set<Port>& heard, std::uint64_t look);
    void answer_waits_for(const std::vector<Event>& events);
    /// Looks in the pool for all who wait, one look at a time; now, and every half second while somebody waits.
    void look_for_waits();
    void mind_waits();
    void end_streams(const std::shared_ptr<Exchange>& exchange);

    [[nodiscard]] Facts facts();
    /// What a config changes besides decisions.
    void apply_config();
    void mind_idleness();
    /// Compares the registry with the system: at start, and when notifications were lost or do not exist.
    void take_census();
    [[nodiscard]] Census look_at_system();
    /// What has ended is seen now, before somebody relies on it: where there are no notifications, and where they are late
    /// (the kernel sends them from a work queue; on a busy machine a program's next start is faster).
    /// With a root: only what that project's leases say is looked at.
    void refresh(const std::string* root = nullptr);
    /// Has a lease a holder that is gone, and nothing has been heard of its sockets?
    [[nodiscard]] bool has_unseen_end(const std::string* root) const;
    /// What was offered to a session whose process has ended waits for a process of it that lives, and for no longer.
    void look_for_survivors(const ProcessId& session);
    /// One walk of /proc for all sessions that have ended by now; the next one when it has come to its end.
    void look_for_next_survivors();
    [[nodiscard]] bool looks_for_survivors(const std::string& root, std::optional<Port> port) const;
    /// While it looks_for_survivors: `then` once it is known of this project and of whoever was offered this port, or not known in time:
    /// what a command that failed was offered is the next one's.
    void with_survivors_known(const std::string& root, std::optional<Port> port, std::function<void()> then);
    void decide_after_looks();
    /// Follows the leases that have sockets or soon will: subscribed to notifications while there are any.
    void mind_sockets(const Event& event);
    void note_destroyed(Cookie cookie);
    /// A socket that no lease knows is gone from this port: perhaps a stranger's.
    void end_conflicts(Port port);
    /// Journal, apply, tell the watchers. With `durable`, a failing journal changes nothing and is an error.
    Status commit(std::vector<Change> changes, bool durable = false);
    /// Would these named leases and their projects take more memory than all may?
    [[nodiscard]] std::optional<Refusal> no_room_for(const std::vector<Change>& changes) const;
    /// Commits by name: the reply goes out when the changes are on the disk. A degraded store gets a chance to mend itself first,
    /// and the request is then decided anew; nothing is written that might be refused afterwards.
    void commit_durably(std::vector<Change> changes, const Request& request, ReplyTo reply, const std::function<Json()>& result);
    /// The same for replies that are too long for a Json of the whole: `line` is asked once, when the changes are committed.
    void commit_with_line(std::vector<Change> changes, const Request& request, ReplyTo reply, const std::function<std::string()>& line);
    void decide_put_off();
    void refuse(const Request& request, const ReplyTo& reply, const Refusal& refusal);
    /// Counts the ranges anew, and from here on with every event; the log is told of those that are nearly full.
    void watch_ranges();
    /// Facts whose ports in use are those that somebody listens on, gathered at one go: for looking at thousands of ports.
    void with_wide_facts(std::function<void(const Facts&)> then);
    /// The same, with what is known of the program that listens where nobody in the registry does.
    void refuse_port(const Request& request, const ReplyTo& reply, Refusal refusal);
    /// A decision about one lease: refused, or committed durably and answered with the lease.
    void answer_lease(Decision<Outcome<LeaseId>> decision, const Project& project, const Request& request, const ReplyTo& reply);
    [[nodiscard]] Json leases_result(const std::vector<LeaseId>& ids) const;
    void mind_store();
    /// In the log, when it has changed why there is no new snapshot.
    void tell_of_snapshots();
    /// on_timer comes at this time or before.
    void wake_by(Time time);

    /// Finds the place of a directory, from the pool unless it was read a moment ago; null when its file system hangs.
    /// Paths may be long, and many may wait for a mount that hangs: there is one copy for all that is to be done.
    void with_place(const std::shared_ptr<const std::string>& directory, std::function<void(const Place*)> then);
    /// The project that a request means (cwd, or project by name or path). `then` does not follow for a peer that has hung
    /// up by then; a project that cannot be found is refused here.
    /// The directory of a project that is named, or given as a path.
    [[nodiscard]] Outcome<std::string> directory_of(const std::string& project) const;
    /// The place of a project that is named or given as a path; NOT_FOUND for a path that is no directory, unless it was a
    /// project's once. `then` does not follow for a peer that has hung up.
    void with_named_project(const Request& request, const std::string& project, const ReplyTo& reply, std::function<void(const Place&)> then);
    /// The same for a directory that is there.
    void with_directory(const Request& request, const std::string& directory, const ReplyTo& reply, std::function<void(const Place&)> then);
    void with_project(const Request& request, Params& params, const ReplyTo& reply, std::function<void(const Place&)> then);
    /// The same, or null with "all".
    void with_project_or_all(const Request& request, Params& params, const ReplyTo& reply, std::function<void(const Place*)> then);
    /// The current lease that a request means (lease.port, lease.url), or a refusal.
    void with_current_lease(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply, std::function<void(const Lease&, const Place&)> then);
    /// Who the peer is: session, scope, place; null when its process is gone.
    void with_caller(const std::shared_ptr<Exchange>& exchange, const ProcessId& hint, std::function<void(const Caller*)> then);
    /// The innermost session above a process.
    [[nodiscard]] std::optional<Session> scope_of(const ProcessStat& process);
    [[nodiscard]] std::optional<Session> scope_of(const ProcessId& process);
    /// What callers from a directory need of its place: one for all of them, while it says the same.
    [[nodiscard]] std::shared_ptr<const Place> shared_place(const std::string& directory, const Place& place);
    /// A place for as long as a request waits. What may be large of it, the project and its config, is one with all others that wait there.
    struct KeptPlace {
        std::shared_ptr<const Project> project;
        std::shared_ptr<const ProjectConfig> config;
        std::string type;
        std::string package_dir;
        std::string problem;
        [[nodiscard]] Place whole() const { return {*project, *config, type, package_dir, problem}; }
    };
    [[nodiscard]] KeptPlace kept_place(const Place& place);
    [[nodiscard]] std::shared_ptr<const Project> kept_project(const Project& project);
    void remember_place(const ProcessId& session, const std::string& directory, std::shared_ptr<const Place> place);
    /// Null when the session has not been there, or too much is remembered already.
    [[nodiscard]] std::shared_ptr<const Place> remembered_place(const ProcessId& session, const std::string& directory) const;
    /// Of a directory that was removed: the innermost known project around it, without what its files said. Null when there is none.
    [[nodiscard]] std::shared_ptr<const Place> place_that_was(const std::string& directory) const;
    /// Looks who listens on those of these leases whose listener the registry does not know (a program without portwrap, a
    /// stranger, the heir of a dead holder's socket); then `then` runs.
    void with_heard(const std::vector<const Lease*>& concerned, std::function<void()> then);
    void look_at_heard();
    /// Programs may have been left without an answer, and may bind without one for a while: until that is over, each look at listeners
    /// (with_heard) finds those of sessions that no lease knows. One begins at once and one ends it, for connections look at the tables alone.
    void mind_unanswered();
    [[nodiscard]] UnansweredQuery unanswered_query() const;
    /// Records what they have, each as if its program had said so; then `then` runs.
    void record_unanswered(const Unanswered& found, const std::function<void()>& then);
    /// The changes of a program that listens, and what has become of its socket meanwhile.
    LeaseId commit_listening(Decision<LeaseId> decision, const Caller& caller, Port port, Cookie cookie);
    void with_all_heard(std::function<void()> then);
    [[nodiscard]] std::vector<HeardSocket> heard_sockets(const std::vector<SeenListener>& seen);
    /// The roots of leases whose directories are gone, looked up in the pool.
    void with_orphans(std::function<void(std::set<std::string>)> then);
    /// Why what a launch offers is not what its program asks for: said when it listens.
    void remember_moves(const std::vector<Change>& offers, const Session& session);
    /// What is known of a change of a root before one has looked.
    struct RootNews {
        bool changed = false;  ///< something has happened to it
        bool deleted = false;  ///< an inode of it was deleted
        bool again = false;    ///< this is the second look
        bool heard = false;    ///< who listens on its ports was looked at just before
    };
    void start_root_care();
    void mind_root(const Event& event);
    void on_roots_changed();
    /// In the pool: watches it, and releases its ports if it is gone, moves them if its worktree has moved.
    void look_at_root(const std::string& root, RootNews news);
    void release_root(const std::string& root);
    /// Leases of which no socket is known, although somebody has their port.
    [[nodiscard]] std::vector<const Lease*> listened_on_by_somebody(const std::string& root) const;
    void move_project(const std::string& from, const Project& to);
    /// A place that was read: if it is a project of another root that has moved here, its ports come along before `then`.
    void with_moves(const Place& place, std::function<void()> then);
    void look_at_all_roots();
    /// What no watch sees, now and then; nobody waits for it.
    void mind_removed_roots();
    /// What an exchange was granted and has not confirmed; 0 for nothing.
    void set_granted(Exchange& exchange, LeaseId lease);
    /// What is known of the project is part of these changes; under the preset `blocks` its block, too.
    void see_project(const Project& project, std::vector<Change>& changes);
    void answer_bind(const std::shared_ptr<Exchange>& exchange, const Request& request, const ReplyTo& reply);

    Outside& m_outside;
    FileJobs m_file_jobs;
    std::unique_ptr<Store> m_store;
    Registry m_registry;
    Options m_options;
    Time m_started_at{};
    std::optional<Time> m_last_cleanup;
    std::optional<RootWatch> m_root_watch;
    std::unordered_map<std::string, RootNews> m_root_looks;  ///< under way, with what has happened since
    std::set<std::string> m_unwatched_roots;                 ///< for which the kernel had no watch left
    std::set<std::string> m_gone_roots;                      ///< where a program still listens
    Time m_all_roots_looked_at{};
    Time m_unwatched_looked_at{};
    std::optional<Time> m_wake_at;
    PortInterval m_ephemeral;
    std::vector<PortInterval> m_kernel_reserved;
    Port m_first_permitted = 1;
    RemapTables m_tables;
    PromptFiles m_prompt_files;
    Config m_config;               ///< that every decision goes by
    std::string m_config_problem;  ///< of the file as it is now; empty when it is in use
    Time m_last_used{};
    bool m_idleness_watched = false;
    std::size_t m_talking = 0;     ///< connections that have asked something and are open
    RangeFill m_range_fill;
    ProjectMemory m_project_memory;
    std::vector<Watcher> m_watchers;
    std::map<const Exchange*, Stream> m_streams;
    std::deque<std::shared_ptr<ImportJob>> m_imports;  ///< that wait for their turn
    bool m_importing = false;
    std::uint64_t m_imports_ended = 0;  ///< so far
    HeldBytes::Total m_held = std::make_shared<std::atomic<std::size_t>>(0);  ///< by requests that wait for something
    std::map<std::uint64_t, Wait> m_waits;
    std::uint64_t m_wait_looks = 0;  ///< begun
    bool m_minding_waits = false;
    bool m_looking_for_waits = false;
    bool m_look_for_waits_again = false;
    std::uint64_t m_next_wait = 0;
    std::deque<WaitingReply> m_waiting;
    /// Changes by name that wait until a degraded store has tried to mend itself: what is refused must not be on the disk.
    std::vector<std::pair<Request, ReplyTo>> m_put_off;
    std::string m_snapshot_problem;  ///< as it was logged last
    std::uint64_t m_named_seq = 0;  ///< the last event that was committed durably, or was there when the agent began
    bool m_sync_due = false;  ///< of what this turn of the loop has committed, when it ends
    /// Who waits for a look at the system's listeners. One look at a time: all who come meanwhile share the next one.
    struct Look {
        std::map<LeaseId, Lease> leases;
        std::vector<std::function<void()>> then;
        bool unanswered = false;  ///< also for listeners that no lease knows
    };
    Look m_next_look;
    bool m_looking = false;
    bool m_minds_unanswered = false;  ///< until its last look has come to its end
    bool m_more_unanswered = false;   ///< since it began
    std::set<Cookie> m_strangers;     ///< that looks have found meanwhile
    std::shared_ptr<RootCommits> m_root_commits = std::make_shared<RootCommits>();
    std::unordered_map<std::string, KnownPlace> m_places;
    std::unordered_map<std::string_view, PlaceRead> m_place_reads;  ///< under way
    KnownProcesses m_processes;
    /// Read at the session's start; good for its life.
    std::map<ProcessId, std::map<std::string, std::shared_ptr<const Place>>> m_session_places;
    std::unordered_map<std::string, std::weak_ptr<const Place>> m_shared_places;  ///< of a directory: the last one
    std::unordered_map<std::string, std::weak_ptr<const Project>> m_kept_projects;       ///< of a root: the last one
    std::unordered_map<std::string, std::weak_ptr<const ProjectConfig>> m_kept_configs;  ///< the same
    std::shared_ptr<std::size_t> m_shared_bytes = std::make_shared<std::size_t>(0);  ///< of all that still live
    std::map<LeaseId, Move> m_moves;              ///< why a lease is not where it was asked for
    std::set<std::pair<ProcessId, LeaseId>> m_noticed;  ///< said once a session
    struct Dropped {
        ProcessId process;
        Time until{};
    };
    std::map<Port, Dropped> m_dropped;
    unsigned m_rotation = 0;
    std::map<LeaseId, int> m_granted;  ///< in how many exchanges, unconfirmed
    std::mt19937_64 m_random{std::random_device{}()};
    std::set<LeaseId> m_socketed;  ///< live leases of running programs, and those that a stranger listens on
    std::set<std::pair<LeaseId, ProcessId>> m_outlived;  ///< holders that were gone at the last census, where the lease's sockets were not
    struct Offered {
        std::set<std::string> roots;
        std::set<Port> ports;
    };
    struct AfterLook {
        std::string root;
        std::optional<Port> port;
        std::function<void()> then;
        std::function<void()> cancel;  ///< its deadline
    };
    std::map<ProcessId, Offered> m_looked_for;     ///< sessions whose survivors are looked for in the pool, and what that concerns
    bool m_looking_for_survivors = false;
    std::map<ProcessId, ProcessId> m_survivors;    ///< a process that outlived its session, and the session
    std::map<std::uint64_t, AfterLook> m_after_looks;
    std::uint64_t m_next_after_look = 0;
    bool m_watching = false;       ///< notifications come
    std::map<LeaseId, std::deque<HealthResult>> m_health;  ///< the last results, the newest last
    std::vector<std::shared_ptr<HealthJob>> m_health_jobs;  ///< under way
    bool m_health_due = false;     ///< a check of its own is under way or will be
    bool m_blind = false;          ///< the last census could not ask for sockets
    /// Cookies of sockets that ended a moment ago: their `shim.bound` may still be on its way on another descriptor.
    std::deque<Cookie> m_destroyed;
    std::unordered_set<Cookie> m_destroyed_set;
};

}  // namespace portwrap
