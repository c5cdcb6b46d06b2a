// exchange.export, exchange.import, exchange.template: files of leases for other programs, and from them.
//
// An import names its file by path, and the agent reads it in the pool: a file is larger than a line of the protocol, rows in
// batches would need a transaction that outlives a request, and the rows' directories have to be looked at in the pool anyway.
// Who may connect is the agent's own user, so that nobody reads a file through it that he could not read himself. What
// portctl has on its standard input it hands over as /proc/PID/fd/N of a memory file.
#include <malloc.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <utility>

#include "core/import_rules.hpp"
#include "core/named_rules.hpp"
#include "portwrap/protocol.hpp"
#include "service/agent.hpp"
#include "service/exchange/read_rows.hpp"
#include "service/exchange/templates.hpp"
#include "service/exchange/write_text.hpp"
#include "system/bounded_read.hpp"
#include "system/places.hpp"

namespace portwrap {
namespace {

constexpr std::size_t k_maps = 1024;

/// Imports that may wait for their turn: each has its request's line and what it says of other names. For many seconds, so that their
/// lines, of 64 KB each and more for what is in them, leave most of what all that wait have (k_held_bytes).
constexpr std::size_t k_waiting_imports = 16;

/// What the projects of one import may take: a few words in a file may lead to thousands of deep directories.
constexpr std::size_t k_max_project_bytes = 4 * 1024 * 1024;

bool is_directory(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// As lease_shape, of a lease whose project the registry may not know (a dry run).
Json imported_shape(const Registry& registry, const Lease& lease, const Project& project) {
    auto shape = lease_shape(registry, lease);
    shape["project"] = {{"name", project.name},
                        {"root", project.root},
                        {"branch", project.branch ? Json(*project.branch) : Json(nullptr)},
                        {"worktree_of", project.worktree_of ? Json(*project.worktree_of) : Json(nullptr)}};
    return shape;
}

}  // namespace

/// One import: who asked for it, and what is done in the pool: the file's text, its rows, and whose they are.
struct Agent::ImportJob {
    Request request;
    ReplyTo reply;
    bool dry_run = false;
    bool strict = false;
    std::string path;
    std::optional<ImportFormat> format;
    std::string home;
    Project asker;                                          ///< whose rows without any name are
    std::map<std::string, std::string> maps;                ///< --map: a name, or a path of another machine
    std::function<void()> cancel_deadline = [] {};          ///< of the wait for its turn
    std::map<std::string, std::vector<std::string>> known;  ///< roots by name, as they are when its turn comes
    std::atomic<bool> is_given_up = false;                  ///< it is late: nobody wants what it reads any more

    std::string name;     ///< how the user knows the file
    std::string problem;  ///< why nothing can be read
    RowsRead read;

    [[nodiscard]] bool is_closed() const { return request.from && request.from->closed; }

    void run() {
        std::error_code ignored;
        const bool is_memory = std::filesystem::read_symlink(path, ignored).native().starts_with("/memfd:");
        name = is_memory ? "standard input" : printable(path, 1024);
        if (read_file() && !find_projects()) { problem = "there is too much in it; import it in parts"; }
    }

private:
    /// False when there is a problem, or nobody waits.
    bool read_file() {
        const auto content = examine_project_file(path, k_import_bytes);
        if (is_given_up) { return false; }
        if (std::holds_alternative<FileAbsent>(content)) {
            problem = "there is no such file";
        } else if (const auto* refused = std::get_if<FileRefused>(&content)) {
            problem = refused->reason;
        } else if (auto rows = read_rows(std::get<std::string>(content), format); !rows) {
            problem = rows.error().message;
        } else {
            read = std::move(*rows);
            return true;
        }
        return false;
    }

    /// False when they take too much.
    bool find_projects() {
        using Whose = std::pair<std::string_view, std::string_view>;  // as a row says it
        std::map<Whose, Outcome<std::shared_ptr<const Project>>> found;
        std::map<std::string_view, std::shared_ptr<const Project>> by_root;
        std::size_t bytes = 0;
        for (auto& row : read.rows) {
            if (is_given_up) { return true; }
            const auto [entry, is_new] = found.try_emplace({row.directory, row.name});
            if (is_new) {
                auto project = project_of(row);
                if (auto* refusal = std::get_if<Refusal>(&project)) {
                    entry->second = std::move(*refusal);
                } else {
                    const auto shared = std::make_shared<const Project>(std::move(std::get<Project>(project)));
                    const auto [first, is_first] = by_root.try_emplace(shared->root, shared);
                    entry->second = first->second;
                    if (is_first && (bytes += bytes_of(*shared)) > k_max_project_bytes) { return false; }
                }
            }
            if (const auto* refusal = std::get_if<Refusal>(&entry->second)) {
                read.refused.push_back({row.row, refusal->message});
            } else {
                row.project = std::get<std::shared_ptr<const Project>>(entry->second);
            }
        }
        std::erase_if(read.rows, [](const ImportRow& row) { return !row.project; });
        return true;
    }

    static std::size_t bytes_of(const Project& project) {
        return project.root.size() + project.name.size() + project.worktree_of.value_or("").size() + project.family.size() + project.git_dir.size();
    }

    [[nodiscard]] Outcome<Project> project_of(const ImportRow& row) const {
        const auto refuse = [](std::string why) { return Refusal{ErrorCode::not_found, std::move(why), {}, {}}; };
        for (const auto* word : {&row.directory, &row.name}) {
            if (word->empty()) { continue; }
            const auto mapped = maps.find(*word);
            if (mapped == maps.end()) { continue; }
            if (!is_directory(mapped->second)) { return refuse("--map: " + printable(mapped->second, 1024) + " is no directory"); }
            return find_place(mapped->second, home).project;
        }
        if (!row.directory.empty() && is_directory(row.directory)) { return find_place(row.directory, home).project; }
        if (row.name.empty()) {
            if (row.directory.empty()) { return asker; }
            return refuse(printable(row.directory, 1024) + " is no directory here (--map " + printable(row.directory, 1024) + "=DIR)");
        }
        const auto named = known.find(row.name);
        const auto shown = printable(row.name, 256);
        if (named == known.end()) { return refuse("no known project is named \"" + shown + "\" (--map " + shown + "=DIR)"); }
        if (named->second.size() > 1) { return refuse("several projects are named \"" + shown + "\" (--map " + shown + "=DIR)"); }
        if (!is_directory(named->second.front())) { return refuse(printable(named->second.front(), 1024) + " is no directory any more"); }
        return find_place(named->second.front(), home).project;
    }
};

void Agent::exchange_export(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const auto format = params.choice<ExportFormat>("format").value_or(ExportFormat::json);
    const bool all = params.flag("all");
    const auto compose_file = params.text("compose_file", 4096);
    if (compose_file && (compose_file->front() != '/' || all || format != ExportFormat::compose)) {
        params.fail("compose_file", "is an absolute path, for the format \"compose\" of one project");
    }
    const auto answer = [this, request, reply, format](const ListFilter& filter, const std::shared_ptr<std::optional<ComposeFile>>& file) {
        with_all_heard([this, request, reply, format, filter, file] {
            auto leases = list_leases(m_registry, filter);
            // A program's number for port 0 means nothing to anybody else.
            std::erase_if(leases, [](const Lease* lease) { return lease->key.requested == Port{0} && lease->origin == LeaseOrigin::process; });
            auto result = ok_shape();
            result["format"] = word(format);
            result["count"] = leases.size();
            result["text"] = write_text(format, m_registry, m_config, leases, m_outside.now(), file && *file ? &**file : nullptr);
            reply({result_line(request.id, result), false});
        });
    };
    if (all) {
        (void)params.text("cwd", 4096);
        if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
        return answer({}, nullptr);
    }
    with_project(request, params, reply, [this, request, reply, answer, format, given = compose_file.value_or("")](const Place& place) {
        ListFilter filter;
        filter.project = kept_project(place.project);
        if (format != ExportFormat::compose) { return answer(filter, nullptr); }
        auto file = std::make_shared<std::optional<ComposeFile>>();
        auto answered = std::make_shared<bool>(false);
        m_file_jobs.run(place.project.root, [root = place.project.root, file, given] { *file = read_compose_file(root, given); },
                        [this, request, reply, answer, filter, file, answered, given](FileJobs::Progress progress) {
            if (std::exchange(*answered, true)) { return; }  // the work ended after its deadline
            if (!given.empty() && (progress != FileJobs::Progress::ended || !*file)) {
                return refuse(request, reply, {ErrorCode::invalid_request, "the compose file cannot be read, or no services with ports are seen in it", {}, {}});
            }
            answer(filter, progress == FileJobs::Progress::ended ? file : nullptr);
        });
    });
}

void Agent::exchange_import(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    auto job = std::make_shared<ImportJob>();
    job->request = request;
    job->reply = reply;
    params.require("path");
    job->path = params.text("path", 4096).value_or("");
    job->format = params.choice<ImportFormat>("format");
    job->home = m_options.home;
    job->dry_run = params.flag("dry_run");
    job->strict = params.flag("strict");
    if (!job->path.empty() && job->path.front() != '/') { params.fail("path", "is not an absolute path"); }
    for (const auto& text : params.texts("map", k_maps, 8192)) {
        const auto equals = text.rfind("=/");
        if (equals == std::string::npos || equals == 0) {
            params.fail("map", "has an entry that is not NAME=/DIRECTORY");
        } else {
            job->maps[text.substr(0, equals)] = text.substr(equals + 1);
        }
    }
    with_project(request, params, reply, [this, job](const Place& place) {
        job->asker = place.project;
        drop_closed_imports();
        if (m_imports.size() >= k_waiting_imports) {
            const auto why = std::to_string(k_waiting_imports) + " other imports wait for their turn already";
            return refuse(job->request, job->reply, {ErrorCode::agent_unavailable, why, {}, {}});
        }
        m_imports.push_back(job);
        limit_import_wait(job);
        start_import();
    });
}

void Agent::drop_closed_imports() {
    const auto first = std::stable_partition(m_imports.begin(), m_imports.end(), [](const auto& job) { return !job->is_closed(); });
    const std::vector<std::shared_ptr<ImportJob>> closed(first, m_imports.end());
    m_imports.erase(first, m_imports.end());
    for (const auto& job : closed) {
        job->cancel_deadline();
        job->reply({});
    }
}

void Agent::limit_import_wait(const std::shared_ptr<ImportJob>& job) {
    job->cancel_deadline = m_outside.call_after(FileJobs::k_deadline, [this, job, ended = m_imports_ended] {
        if (m_imports_ended != ended) { return limit_import_wait(job); }
        std::erase(m_imports, job);
        if (job->is_closed()) { return job->reply({}); }
        refuse(job->request, job->reply, {ErrorCode::agent_unavailable, "another import is still being read", {}, {}});
    });
}

/// One at a time: each may take some 20 MB, until its work has come to its end, whoever waits for it.
void Agent::start_import() {
    drop_closed_imports();
    if (m_imports.empty() || std::exchange(m_importing, true)) { return; }
    const auto job = m_imports.front();
    m_imports.pop_front();
    job->cancel_deadline();
    for (const auto& [root, project] : m_registry.projects()) { job->known[project.name].push_back(root); }
    m_file_jobs.run(job->path, [job] { job->run(); }, [this, job](FileJobs::Progress progress) {
        if (progress != FileJobs::Progress::ended) {
            job->is_given_up = true;
            const auto why = " could not be read in time: its file system, or that of a project in it, does not answer, or it names too many directories";
            refuse(job->request, job->reply, {ErrorCode::agent_unavailable, printable(job->path, 1024) + why, {}, {}});
        } else if (!job->is_given_up) {
            answer_import(*job);
        }
        if (progress == FileJobs::Progress::late) { return; }
        job->read = {};
        ::malloc_trim(0);  // what a large file took goes back
        ++m_imports_ended;
        m_importing = false;
        start_import();
    });
}

void Agent::answer_import(ImportJob& job) {
    const auto& request = job.request;
    const auto& reply = job.reply;
    if (job.is_closed()) { return reply({}); }
    const auto refuse_file = [&](const std::string& why) { refuse(request, reply, {ErrorCode::invalid_request, job.name + ": " + why, {}, {}}); };
    if (!job.problem.empty()) { return refuse_file(job.problem); }
    refresh();
    auto decision = decide_import(m_registry, m_config, job.read.rows, std::move(job.read.refused), job.strict, facts());
    if (decision.answer.too_much) { return refuse_file("its ports would take too much memory; import it in parts"); }
    // Before there is a reply: of what the registry has no room for it might be as long.
    if (const auto refusal = no_room_for(decision.changes)) { return refuse(request, reply, *refusal); }
    std::map<std::string_view, std::shared_ptr<const Project>> projects;
    for (const auto& row : job.read.rows) { projects.emplace(row.project->root, row.project); }
    job.read.rows = {};
    auto result = ok_shape();
    result["dry_run"] = job.dry_run;
    result["format"] = word(job.read.format);
    result["refused"] = Json::array();
    for (const auto& row : decision.answer.refused) { result["refused"].push_back({{"row", row.row}, {"reason", row.reason}}); }
    result["strict_refused"] = job.strict && !decision.answer.refused.empty();
    const auto line = [&] {
        const auto& imported = decision.answer.imported;
        return result_line(request.id, result, "imported", imported.size(),
                           [&](std::size_t index) { return imported_shape(m_registry, imported[index], *projects.at(imported[index].key.root)); });
    };
    if (job.dry_run || decision.changes.empty()) { return reply({line(), false}); }
    commit_with_line(std::move(decision.changes), request, reply, line);
}

void Agent::exchange_template(const std::shared_ptr<Exchange>&, const Request& request, const ReplyTo& reply) {
    Params params(request.params);
    const auto kind = params.text("kind", 64);
    const auto service = params.text("service", 64);
    if (!kind) {
        (void)params.text("cwd", 4096);
        (void)params.text("project", 4096);
        if (const auto problem = params.finish(); !problem.empty()) { return refuse(request, reply, {ErrorCode::invalid_request, problem, {}, {}}); }
        auto result = ok_shape();
        result["templates"] = Json::array();
        for (const auto& entry : all_templates()) { result["templates"].push_back({{"kind", entry.kind}, {"description", entry.description}}); }
        return reply({result_line(request.id, result), false});
    }
    with_project(request, params, reply, [this, request, reply, kind = *kind, service](const Place& place) {
        const auto* chosen = find_template(kind);
        if (chosen == nullptr) {
            return refuse(request, reply, {ErrorCode::not_found, "there is no template \"" + printable(kind, 64) + "\" (portctl template --list)", {}, {}});
        }
        refresh();
        const auto* lease = current_lease(m_registry, place, service, std::nullopt);
        if (lease == nullptr) {
            const auto name = service.value_or("main");
            return refuse(request, reply, {ErrorCode::not_found, "project \"" + place.project.name + "\" has no port" + (service ? " for \"" + printable(name) + "\"" : "") +
                                                                     "; `portctl get " + printable(name) + "` gives it one", {}, {}});
        }
        TemplateValues values;
        values.port = lease->port;
        values.inside = lease->key.requested.value_or(0) != 0 ? *lease->key.requested : lease->port;
        values.service = plain_name(lease->key.service);
        values.variable = variable_name(m_registry, *lease);
        values.project = plain_name(place.project.name);
        values.root = printable(place.project.root, 4096);
        values.host = lease->hostname.value_or(host_of(place.project.name));
        auto result = ok_shape();
        result["kind"] = kind;
        result["text"] = fill_template(*chosen, values);
        result["lease"] = lease_shape(m_registry, *lease);
        reply({result_line(request.id, result), false});
    });
}

std::span<const Agent::Method> Agent::exchange_methods() {
    static constexpr Method k_methods[] = {{"exchange.export", &Agent::exchange_export},
                                           {"exchange.import", &Agent::exchange_import},
                                           {"exchange.template", &Agent::exchange_template}};
    return k_methods;
}

}  // namespace portwrap
