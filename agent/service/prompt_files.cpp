#include "service/prompt_files.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "core/segment.hpp"
#include "portwrap/paths.hpp"
#include "portwrap/unique_fd.hpp"

namespace portwrap {
namespace {

/// No eye sees the difference, and a hundred starts at once are one file.
constexpr auto k_gathering = std::chrono::milliseconds(20);

/// The directories above a file, from the innermost: most of them are there. What cannot be made shows when the file is opened.
void make_directories(const std::string& file) {
    const auto slash = file.rfind('/');
    if (slash == std::string::npos || slash == 0) { return; }
    const auto directory = file.substr(0, slash);
    if (::mkdir(directory.c_str(), 0700) == 0 || errno != ENOENT) { return; }
    make_directories(directory);
    ::mkdir(directory.c_str(), 0700);
}

}  // namespace

PromptFiles::PromptFiles(Outside& outside, Options options) : m_outside(outside), m_options(std::move(options)) {}

void PromptFiles::start(const Registry& registry) {
    std::error_code ignored;
    std::filesystem::remove_all(m_options.directory, ignored);
    std::set<std::string> roots;
    for (const auto& [id, lease] : registry.leases()) {
        if (!lease.live()) { continue; }
        m_roots[id] = lease.key.root;
        roots.insert(lease.key.root);
    }
    for (const auto& root : roots) { publish(root, registry); }
}

void PromptFiles::on_event(const Event& event, const Registry& registry) {
    if (const auto* changed = std::get_if<LeaseEvent>(&event.change)) {
        const auto& lease = changed->lease;
        const auto known = m_roots.find(lease.id);
        // It may have been handed over to another project.
        if (known != m_roots.end() && known->second != lease.key.root) { mark(known->second, registry); }
        if (known != m_roots.end() || lease.live()) { mark(lease.key.root, registry); }
        if (lease.live()) {
            m_roots[lease.id] = lease.key.root;
        } else {
            m_roots.erase(lease.id);
        }
    } else if (const auto* forgotten = std::get_if<LeaseForgotten>(&event.change)) {
        if (const auto known = m_roots.extract(forgotten->id)) { mark(known.mapped(), registry); }
    }
}

void PromptFiles::mark(const std::string& root, const Registry& registry) {
    m_due.insert(root);
    if (m_cancel) { return; }
    m_cancel = m_outside.call_after(k_gathering, [this, &registry] {
        m_cancel = nullptr;
        for (const auto& due : m_due) { publish(due, registry); }
        m_due.clear();
    });
}

void PromptFiles::publish(const std::string& root, const Registry& registry) {
    const auto segment = prompt_segment(registry.of_project(root));
    const auto known = m_published.find(root);
    if (segment.empty()) {
        if (known == m_published.end()) { return; }
        m_published.erase(known);
        return remove(root);
    }
    if (known != m_published.end() && known->second == segment) { return; }
    m_published[root] = segment;
    write(root, segment);
}

void PromptFiles::write(const std::string& root, const std::string& segment) {
    const auto file = prompt_file(m_options.directory, root);
    const auto fresh = file + ".new";
    constexpr int k_how = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    UniqueFd fd{::open(fresh.c_str(), k_how, 0600)};
    if (!fd.valid() && errno == ENOENT) {
        make_directories(fresh);
        fd.reset(::open(fresh.c_str(), k_how, 0600));
    }
    const auto text = segment + '\n' + std::to_string(m_options.agent) + '\n';
    if (fd.valid() && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
        ::rename(fresh.c_str(), file.c_str()) == 0) {
        return;
    }
    const int error = errno;
    // What is not true any more must not stay; and a root whose mirror does not fit has no segment, which is no trouble.
    ::unlink(fresh.c_str());
    ::unlink(file.c_str());
    m_published.erase(root);
    if (error != ENAMETOOLONG && !m_in_trouble) {
        m_options.log_trouble("no segments for prompts in " + m_options.directory + ": " + std::strerror(error));
        m_in_trouble = true;
    }
}

void PromptFiles::remove(const std::string& root) {
    auto path = prompt_file(m_options.directory, root);
    ::unlink(path.c_str());
    // Up to the first directory that something else is in.
    for (path.resize(path.rfind('/')); path.size() > m_options.directory.size(); path.resize(path.rfind('/'))) {
        if (::rmdir(path.c_str()) != 0) { return; }
    }
}

void PromptFiles::close() {
    if (m_cancel) { m_cancel(); }
    m_cancel = nullptr;
    std::error_code ignored;
    std::filesystem::remove_all(m_options.directory, ignored);
}

}  // namespace portwrap
