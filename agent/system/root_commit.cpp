#include "system/root_commit.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "portwrap/unique_fd.hpp"
#include "system/bounded_read.hpp"

namespace portwrap {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t k_max_steps = 30'000;        ///< without a commit-graph: about half a second
constexpr std::size_t k_max_work = 4'000'000;      ///< in all, see Work: a second or two
constexpr std::size_t k_max_object = 128 << 10;    ///< bytes of a commit, or of what it is a delta of
constexpr std::size_t k_max_delta = 64 << 10;      ///< bytes of what makes one commit of another
constexpr std::size_t k_commit_head = 512;         ///< enough for the lines "tree" and "parent"
constexpr std::size_t k_max_packs = 256;
constexpr std::size_t k_max_alternates = 8;
constexpr std::size_t k_max_layers = 64;           ///< of a commit-graph
constexpr std::size_t k_max_delta_depth = 64;

using Oid = std::array<unsigned char, 20>;
using Bytes = std::string;

/// What a search may still cost: one for each system call or so, and for each few thousand bytes that are unpacked. A repository of
/// any size stays far below it; files that were made to be walked for ever do not.
class Work {
public:
    [[nodiscard]] bool take(std::size_t amount) {
        m_left -= std::min(m_left, amount);
        return m_left > 0;
    }
    [[nodiscard]] bool take_bytes(std::size_t bytes) { return take(1 + bytes / 2048); }

private:
    std::size_t m_left = k_max_work;
};

/// Notices that a walk goes in a circle, within three times the circle's length and the way to it (Brent's algorithm): damaged files
/// may name a commit as its own ancestor.
template <typename T>
class Circle {
public:
    [[nodiscard]] bool closes_at(const T& here) {
        if (m_steps > 0 && here == m_mark) { return true; }
        if ((m_steps & (m_steps - 1)) == 0) { m_mark = here; }
        ++m_steps;
        return false;
    }

private:
    T m_mark{};
    std::size_t m_steps = 0;
};

std::optional<Oid> parse_oid(std::string_view hex) {
    if (hex.size() != 40) { return std::nullopt; }
    Oid oid{};
    for (std::size_t i = 0; i < hex.size(); ++i) {
        const char c = hex[i];
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) { return std::nullopt; }
        oid[i / 2] = static_cast<unsigned char>(oid[i / 2] * 16 + digit);
    }
    return oid;
}

std::string hex_of(const Oid& oid) {
    constexpr std::string_view k_digits = "0123456789abcdef";
    std::string text;
    for (const auto byte : oid) {
        text += k_digits[byte >> 4U];
        text += k_digits[byte & 15U];
    }
    return text;
}

/// A regular file that is read at offsets: never mapped, since whoever truncates a mapped file kills its reader.
class File {
public:
    explicit File(const std::string& path) : m_fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {
        struct stat st {};
        if (m_fd.valid() && (::fstat(m_fd.get(), &st) != 0 || !S_ISREG(st.st_mode))) { m_fd.reset(); }
    }
    [[nodiscard]] bool valid() const { return m_fd.valid(); }
    /// As many bytes as there are, at most `size`.
    [[nodiscard]] Bytes read(std::uint64_t offset, std::size_t size) const {
        Bytes bytes(size, '\0');
        const auto count = ::pread(m_fd.get(), bytes.data(), size, static_cast<off_t>(offset));
        bytes.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
        return bytes;
    }
    template <std::size_t N>
    [[nodiscard]] bool fill(std::uint64_t offset, std::array<unsigned char, N>& into) const {
        return ::pread(m_fd.get(), into.data(), N, static_cast<off_t>(offset)) == static_cast<ssize_t>(N);
    }
    /// Big-endian.
    [[nodiscard]] std::optional<std::uint32_t> number(std::uint64_t offset) const {
        std::array<unsigned char, 4> bytes{};
        if (!fill(offset, bytes)) { return std::nullopt; }
        return std::uint32_t{bytes[0]} << 24U | std::uint32_t{bytes[1]} << 16U | std::uint32_t{bytes[2]} << 8U | bytes[3];
    }
    [[nodiscard]] std::optional<std::uint64_t> long_number(std::uint64_t offset) const {
        const auto high = number(offset);
        const auto low = number(offset + 4);
        if (!high || !low) { return std::nullopt; }
        return std::uint64_t{*high} << 32U | *low;
    }

private:
    UniqueFd m_fd;
};

/// Position of an id in a sorted table of ids that has a fan-out table of 256 numbers.
std::optional<std::uint32_t> find_oid(const File& file, std::uint64_t fanout, std::uint64_t ids, const Oid& oid) {
    const auto first = oid[0] == 0 ? std::optional<std::uint32_t>(0) : file.number(fanout + 4U * (oid[0] - 1U));
    const auto last = file.number(fanout + 4U * oid[0]);
    if (!first || !last) { return std::nullopt; }
    auto low = *first;
    auto high = *last;
    while (low < high) {
        const auto middle = low + (high - low) / 2;
        Oid there{};
        if (!file.fill(ids + 20ULL * middle, there)) { return std::nullopt; }
        if (there == oid) { return middle; }
        if (there < oid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return std::nullopt;
}

/// What a zlib stream of a file unpacks to, at most `limit` bytes of it.
std::optional<Bytes> inflate_at(const File& file, std::uint64_t offset, std::size_t limit) {
    z_stream stream{};
    if (::inflateInit(&stream) != Z_OK) { return std::nullopt; }
    Bytes result(limit, '\0');
    stream.next_out = reinterpret_cast<unsigned char*>(result.data());
    stream.avail_out = static_cast<unsigned>(limit);
    const std::size_t chunk = std::min<std::size_t>(limit, 16384);
    int status = Z_OK;
    while (status == Z_OK && stream.avail_out > 0) {
        auto packed = file.read(offset, chunk);
        if (packed.empty()) { break; }
        offset += packed.size();
        stream.next_in = reinterpret_cast<unsigned char*>(packed.data());
        stream.avail_in = static_cast<unsigned>(packed.size());
        status = ::inflate(&stream, Z_NO_FLUSH);
    }
    result.resize(limit - stream.avail_out);
    ::inflateEnd(&stream);
    const bool good = status == Z_STREAM_END || (status == Z_OK && result.size() == limit);
    return good ? std::optional<Bytes>(std::move(result)) : std::nullopt;
}

/// Little-endian groups of seven bits, as in the head of a delta.
std::optional<std::size_t> delta_size(std::string_view& delta) {
    std::size_t value = 0;
    for (unsigned shift = 0; !delta.empty() && shift < 35; shift += 7) {
        const auto byte = static_cast<unsigned char>(delta.front());
        delta.remove_prefix(1);
        value |= std::size_t{byte & 127U} << shift;
        if ((byte & 128U) == 0) { return value; }
    }
    return std::nullopt;
}

std::optional<Bytes> apply_delta(const Bytes& base, std::string_view delta) {
    const auto base_size = delta_size(delta);
    const auto size = delta_size(delta);
    if (!base_size || *base_size != base.size() || !size || *size > k_max_object) { return std::nullopt; }
    Bytes result;
    result.reserve(*size);
    while (!delta.empty()) {
        const auto command = static_cast<unsigned char>(delta.front());
        delta.remove_prefix(1);
        if ((command & 128U) == 0) {  // the next bytes as they are
            if (command == 0 || delta.size() < command) { return std::nullopt; }
            result.append(delta.substr(0, command));
            delta.remove_prefix(command);
        } else {  // a stretch of the base
            std::size_t from = 0;
            std::size_t count = 0;
            for (unsigned bit = 0; bit < 7; ++bit) {
                if ((command & (1U << bit)) == 0) { continue; }
                if (delta.empty()) { return std::nullopt; }
                auto& number = bit < 4 ? from : count;
                number |= std::size_t{static_cast<unsigned char>(delta.front())} << 8U * (bit % 4);
                delta.remove_prefix(1);
            }
            if (count == 0) { count = 0x10000; }
            if (from > base.size() || count > base.size() - from) { return std::nullopt; }
            result.append(base, from, count);
        }
        if (result.size() > *size) { return std::nullopt; }
    }
    return result.size() == *size ? std::optional<Bytes>(std::move(result)) : std::nullopt;
}

class Objects {
public:
    explicit Objects(const std::string& common_dir) { add(common_dir + "/objects", 0); }

    /// The beginning of a commit's text.
    std::optional<Bytes> commit(const Oid& oid, Work& work) {
        if (!work.take(m_directories.size())) { return std::nullopt; }
        if (auto found = loose(oid)) { return found; }
        for (const auto& pack : m_packs) {
            if (!work.take(k_search)) { return std::nullopt; }
            if (const auto offset = offset_in(pack, oid)) { return packed(pack, *offset, work); }
        }
        return std::nullopt;
    }
    [[nodiscard]] const std::vector<std::string>& directories() const { return m_directories; }

private:
    struct Pack {
        File index;
        File objects;
        std::uint32_t count = 0;
    };
    static constexpr std::uint64_t k_fanout = 8;
    static constexpr std::uint64_t k_ids = k_fanout + 4 * 256;
    static constexpr std::size_t k_search = 16;  ///< system calls to find an id in an index

    void add(const std::string& directory, std::size_t depth) {
        if (m_directories.size() > k_max_alternates || depth > 5) { return; }
        m_directories.push_back(directory);
        std::error_code error;
        for (fs::directory_iterator entry(directory + "/pack", error), end; !error && entry != end; entry.increment(error)) {
            if (m_packs.size() >= k_max_packs || entry->path().extension() != ".idx") { continue; }
            Pack pack{File(entry->path().string()), File(fs::path(entry->path()).replace_extension(".pack").string())};
            if (!pack.index.valid() || !pack.objects.valid() || pack.index.read(0, 8) != std::string_view("\xfftOc\0\0\0\2", 8)) { continue; }
            pack.count = pack.index.number(k_fanout + 4 * 255).value_or(0);
            m_packs.push_back(std::move(pack));
        }
        const auto alternates = read_project_file(directory + "/info/alternates").value_or("");
        for (std::size_t at = 0; at < alternates.size() && m_directories.size() <= k_max_alternates;) {
            const auto end = std::min(alternates.find('\n', at), alternates.size());
            const auto line = alternates.substr(at, end - at);
            if (!line.empty() && line[0] != '#') { add((fs::path(directory) / line).lexically_normal().string(), depth + 1); }
            at = end + 1;
        }
    }

    [[nodiscard]] std::optional<Bytes> loose(const Oid& oid) const {
        const auto name = hex_of(oid);
        for (const auto& directory : m_directories) {
            const File file(directory + "/" + name.substr(0, 2) + "/" + name.substr(2));
            if (!file.valid()) { continue; }
            const auto text = inflate_at(file, 0, k_commit_head);
            if (!text || !text->starts_with("commit ")) { return std::nullopt; }
            const auto head = text->find('\0');
            return head == Bytes::npos ? std::nullopt : std::optional<Bytes>(text->substr(head + 1));
        }
        return std::nullopt;
    }

    static std::optional<std::uint64_t> offset_in(const Pack& pack, const Oid& oid) {
        const auto position = find_oid(pack.index, k_fanout, k_ids, oid);
        if (!position) { return std::nullopt; }
        const auto offsets = k_ids + 24ULL * pack.count;
        const auto offset = pack.index.number(offsets + 4ULL * *position);
        if (!offset || (*offset & 0x80000000U) == 0) { return offset; }
        return pack.index.long_number(offsets + 4ULL * pack.count + 8ULL * (*offset & 0x7fffffffU));
    }

    /// An object of a pack, as its head describes it.
    struct Entry {
        unsigned type = 0;
        std::size_t size = 0;       ///< unpacked
        std::uint64_t content = 0;  ///< where the zlib stream begins
        std::uint64_t base = 0;     ///< of a delta: where the object is of which it is one
    };
    static constexpr unsigned k_commit = 1;
    static constexpr unsigned k_offset_delta = 6;
    static constexpr unsigned k_named_delta = 7;

    static std::optional<Entry> entry_at(const Pack& pack, std::uint64_t offset) {
        const auto head = pack.objects.read(offset, 64);
        std::size_t at = 0;
        const auto next = [&]() -> std::optional<unsigned char> {
            return at < head.size() ? std::optional<unsigned char>(static_cast<unsigned char>(head[at++])) : std::nullopt;
        };
        auto byte = next();
        if (!byte) { return std::nullopt; }
        Entry entry;
        entry.type = (*byte >> 4U) & 7U;
        std::uint64_t size = *byte & 15U;
        for (unsigned shift = 4; (*byte & 128U) != 0; shift += 7) {
            byte = next();
            if (!byte || shift > 32) { return std::nullopt; }
            size |= std::uint64_t{*byte & 127U} << shift;
        }
        if (size > (entry.type == k_commit ? k_max_object : k_max_delta)) { return std::nullopt; }
        entry.size = static_cast<std::size_t>(size);
        if (entry.type == k_offset_delta) {
            byte = next();
            if (!byte) { return std::nullopt; }
            std::uint64_t back = *byte & 127U;
            while ((*byte & 128U) != 0) {
                byte = next();
                if (!byte || back > UINT32_MAX) { return std::nullopt; }
                back = ((back + 1) << 7U) | (*byte & 127U);
            }
            if (back == 0 || back > offset) { return std::nullopt; }
            entry.base = offset - back;
        } else if (entry.type == k_named_delta) {
            Oid base{};
            if (head.size() < at + base.size()) { return std::nullopt; }
            std::memcpy(base.data(), head.data() + at, base.size());
            at += base.size();
            const auto base_offset = offset_in(pack, base);
            if (!base_offset) { return std::nullopt; }
            entry.base = *base_offset;
        } else if (entry.type != k_commit) {
            return std::nullopt;
        }
        entry.content = offset + at;
        return entry;
    }

    /// The beginning of a commit. What it is a delta of is followed down to a whole commit before anything is unpacked, so that no more than
    /// three objects are in memory at once, and none of a chain that leads nowhere.
    static std::optional<Bytes> packed(const Pack& pack, std::uint64_t offset, Work& work) {
        std::vector<Entry> deltas;
        Circle<std::uint64_t> circle;
        auto entry = entry_at(pack, offset);
        for (; entry && entry->type != k_commit; entry = entry_at(pack, offset)) {
            offset = entry->base;
            if (circle.closes_at(offset) || deltas.size() >= k_max_delta_depth || !work.take(k_search)) { return std::nullopt; }
            deltas.push_back(*entry);
        }
        if (!entry) { return std::nullopt; }
        const auto wanted = deltas.empty() ? std::min(entry->size, k_commit_head) : entry->size;
        if (!work.take_bytes(wanted)) { return std::nullopt; }
        auto text = inflate_at(pack.objects, entry->content, wanted);
        for (auto delta = deltas.rbegin(); text && delta != deltas.rend(); ++delta) {
            if (!work.take_bytes(delta->size)) { return std::nullopt; }
            const auto change = inflate_at(pack.objects, delta->content, delta->size);
            text = change ? apply_delta(*text, *change) : std::nullopt;
            if (text && !work.take_bytes(text->size())) { return std::nullopt; }
        }
        return text;
    }

    std::vector<std::string> m_directories;
    std::vector<Pack> m_packs;
};

/// The files in which git keeps the history's shape, so that it need not be unpacked.
class CommitGraph {
public:
    explicit CommitGraph(const std::string& objects) {
        if (add(objects + "/info/commit-graph")) { return; }
        const auto chain = read_project_file(objects + "/info/commit-graphs/commit-graph-chain").value_or("");
        for (std::size_t at = 0; at + 40 <= chain.size(); at += 41) {
            if (m_layers.size() >= k_max_layers || !add(objects + "/info/commit-graphs/graph-" + chain.substr(at, 40) + ".graph")) {
                m_layers.clear();  // positions would not fit any more
                return;
            }
        }
    }

    /// The root that first parents lead to, none when the graph does not know the commit.
    [[nodiscard]] std::optional<Oid> root_of(const Oid& oid, Work& work) const {
        std::optional<std::uint32_t> position;
        for (const auto& layer : m_layers) {
            if (!work.take(2)) { return std::nullopt; }
            if (const auto found = find_oid(layer.file, layer.fanout, layer.ids, oid)) { position = layer.base + *found; }
        }
        if (!position) { return std::nullopt; }
        constexpr std::uint32_t k_none = 0x70000000;
        Circle<std::uint32_t> circle;
        while (!circle.closes_at(*position) && work.take(1)) {
            const auto* layer = layer_at(*position);
            if (layer == nullptr) { return std::nullopt; }
            const auto here = *position - layer->base;
            position = layer->file.number(layer->commits + 36ULL * here + 20);
            if (!position) { return std::nullopt; }
            if (*position == k_none) {
                Oid root{};
                return layer->file.fill(layer->ids + 20ULL * here, root) ? std::optional<Oid>(root) : std::nullopt;
            }
        }
        return std::nullopt;
    }

private:
    struct Layer {
        File file;
        std::uint64_t fanout = 0;
        std::uint64_t ids = 0;
        std::uint64_t commits = 0;
        std::uint32_t base = 0;  ///< commits in the layers before
        std::uint32_t count = 0;
    };

    bool add(const std::string& path) {
        Layer layer{File(path)};
        if (!layer.file.valid()) { return false; }
        const auto head = layer.file.read(0, 8);
        if (head.size() != 8 || !head.starts_with("CGPH\1\1")) { return false; }
        const auto chunks = static_cast<unsigned char>(head[6]);
        for (unsigned i = 0; i < chunks; ++i) {
            const auto id = layer.file.read(8 + 12ULL * i, 4);
            const auto offset = layer.file.long_number(8 + 12ULL * i + 4).value_or(0);
            if (id == "OIDF") { layer.fanout = offset; }
            if (id == "OIDL") { layer.ids = offset; }
            if (id == "CDAT") { layer.commits = offset; }
        }
        if (layer.fanout == 0 || layer.ids == 0 || layer.commits == 0) { return false; }
        layer.count = layer.file.number(layer.fanout + 4 * 255).value_or(0);
        if (!m_layers.empty()) { layer.base = m_layers.back().base + m_layers.back().count; }
        m_layers.push_back(std::move(layer));
        return true;
    }
    [[nodiscard]] const Layer* layer_at(std::uint32_t position) const {
        for (const auto& layer : m_layers) {
            if (position >= layer.base && position - layer.base < layer.count) { return &layer; }
        }
        return nullptr;
    }

    std::vector<Layer> m_layers;
};

std::string first_line(const std::string& text) { return text.substr(0, text.find_first_of("\r\n")); }

std::string read_head(const std::string& git_dir, const std::string& common_dir) {
    auto head = first_line(read_project_file(git_dir + "/HEAD").value_or(""));
    if (!head.starts_with("ref: ")) { return head; }
    const auto ref = head.substr(5);
    if (ref.empty() || ref.find("..") != std::string::npos || ref.find('\0') != std::string::npos) { return {}; }
    const auto below = "/" + ref;
    for (const auto* directory : {&git_dir, &common_dir}) {
        if (const auto text = read_project_file(*directory + below)) { return first_line(*text); }
    }
    const auto packed = read_project_file(common_dir + "/packed-refs").value_or("");
    const auto entry = " " + ref + "\n";
    const auto found = packed.find(entry);
    return found == std::string::npos || found < 40 ? std::string() : packed.substr(found - 40, 40);
}

std::optional<Oid> first_parent(std::string_view commit, bool& good) {
    // "tree ID\n", then "parent ID\n" for each parent
    constexpr std::size_t k_tree_line = 46;
    constexpr std::string_view k_parent = "parent ";
    good = commit.starts_with("tree ") && commit.size() > k_tree_line;
    if (!good) { return std::nullopt; }
    commit.remove_prefix(k_tree_line);
    if (!commit.starts_with(k_parent)) { return std::nullopt; }
    const auto oid = parse_oid(commit.substr(k_parent.size(), 40));
    good = oid.has_value();
    return oid;
}

std::string root_of(const std::string& head, const std::string& common_dir) {
    auto oid = parse_oid(head);
    if (!oid || is_readable_file(common_dir + "/shallow")) { return {}; }
    Objects objects(common_dir);
    std::vector<CommitGraph> graphs;
    for (const auto& directory : objects.directories()) { graphs.emplace_back(directory); }
    Work work;
    Circle<Oid> circle;
    for (std::size_t step = 0; step < k_max_steps && !circle.closes_at(*oid); ++step) {
        for (const auto& graph : graphs) {
            if (const auto root = graph.root_of(*oid, work)) { return hex_of(*root); }
        }
        const auto commit = objects.commit(*oid, work);
        if (!commit) { return {}; }
        bool good = false;
        const auto parent = first_parent(*commit, good);
        if (!good) { return {}; }
        if (!parent) { return hex_of(*oid); }
        oid = parent;
    }
    return {};
}

}  // namespace

std::string read_root_commit(const std::string& git_dir, const std::string& common_dir) {
    return root_of(read_head(git_dir, common_dir), common_dir);
}

std::string RootCommits::of(const std::string& git_dir, const std::string& common_dir) {
    const auto head = read_head(git_dir, common_dir);
    struct statx st {};
    if (::statx(AT_FDCWD, (common_dir + "/objects").c_str(), 0, STATX_INO | STATX_BTIME, &st) != 0) { return {}; }
    const std::array<std::uint64_t, 4> identity{std::uint64_t{st.stx_dev_major} << 32U | st.stx_dev_minor, st.stx_ino,
                                                static_cast<std::uint64_t>(st.stx_btime.tv_sec), st.stx_btime.tv_nsec};
    {
        const std::lock_guard lock(m_mutex);
        const auto known = m_known.find(common_dir);
        const bool same = known != m_known.end() && known->second.identity == identity;
        if (same && (!known->second.root.empty() || known->second.head == head)) { return known->second.root; }
    }
    auto root = root_of(head, common_dir);
    const std::lock_guard lock(m_mutex);
    constexpr std::size_t k_remembered = 1024;
    if (m_known.size() >= k_remembered) { m_known.clear(); }
    m_known[common_dir] = {identity, head, root};
    return root;
}

}  // namespace portwrap
