// See visibility.hpp. The layouts are those of elf(5).
#include "visibility.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "portwrap/unique_fd.hpp"

namespace portwrap {

namespace {

constexpr int k_max_interpreters = 4;
constexpr std::size_t k_max_headers = 4096;
constexpr std::size_t k_max_symbols = 1 << 20;
constexpr std::size_t k_max_first_line = 256;

#if defined(__x86_64__)
constexpr unsigned k_machine = EM_X86_64;
#elif defined(__aarch64__)
constexpr unsigned k_machine = EM_AARCH64;
#endif

/// False where the file ends before.
template <typename T>
bool read_at(std::string_view contents, std::uint64_t at, T& into) {
    if (at > contents.size() || sizeof(T) > contents.size() - at) { return false; }
    std::memcpy(&into, contents.data() + at, sizeof into);
    return true;
}

std::string_view part_of(std::string_view contents, std::uint64_t at, std::uint64_t size) {
    if (at > contents.size()) { return {}; }
    return contents.substr(static_cast<std::size_t>(at), static_cast<std::size_t>(size));
}

/// A note named "Go": the build id that Go's linker leaves.
bool has_go_note(std::string_view notes) {
    std::size_t at = 0;
    Elf64_Nhdr note{};
    while (read_at(notes, at, note)) {
        const auto aligned = [](std::size_t size) { return (size + 3) & ~std::size_t{3}; };
        const auto name = part_of(notes, at + sizeof note, note.n_namesz);
        if (name.substr(0, name.find('\0')) == "Go") { return true; }
        at += sizeof note + aligned(note.n_namesz) + aligned(note.n_descsz);
    }
    return false;
}

bool imports_sockets(std::string_view contents, const Elf64_Ehdr& header) {
    for (std::size_t i = 0; i < header.e_shnum && i < k_max_headers; ++i) {
        Elf64_Shdr section{};
        Elf64_Shdr names{};
        if (!read_at(contents, header.e_shoff + i * sizeof section, section)) { return false; }
        if (section.sh_type != SHT_DYNSYM || !read_at(contents, header.e_shoff + section.sh_link * sizeof names, names)) { continue; }
        const auto strings = part_of(contents, names.sh_offset, names.sh_size);
        for (std::size_t s = 0; s * sizeof(Elf64_Sym) < section.sh_size && s < k_max_symbols; ++s) {
            Elf64_Sym symbol{};
            if (!read_at(contents, section.sh_offset + s * sizeof symbol, symbol)) { return false; }
            if (symbol.st_shndx != SHN_UNDEF || symbol.st_name >= strings.size()) { continue; }
            const auto rest = strings.substr(symbol.st_name);
            const auto name = rest.substr(0, rest.find('\0'));
            if (name == "bind" || name == "connect") { return true; }
        }
    }
    return false;
}

/// The whole file in memory, as long as this lives.
class MappedFile {
public:
    explicit MappedFile(const std::string& path) {
        const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
        struct stat status {};
        if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) { return; }
        const auto size = static_cast<std::size_t>(status.st_size);
        void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
        if (memory != MAP_FAILED) { m_contents = {static_cast<const char*>(memory), size}; }
    }
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    ~MappedFile() {
        if (!m_contents.empty()) { ::munmap(const_cast<char*>(m_contents.data()), m_contents.size()); }
    }
    [[nodiscard]] std::string_view contents() const { return m_contents; }

private:
    std::string_view m_contents;
};

/// As execvp finds it; empty when it does not.
std::string find_program(const std::string& word) {
    if (word.find('/') != std::string::npos) { return word; }
    const char* path = std::getenv("PATH");
    std::string_view rest = path != nullptr ? path : "/bin:/usr/bin";
    for (;;) {
        const auto colon = rest.find(':');
        const auto directory = rest.substr(0, colon);
        auto candidate = (directory.empty() ? std::string(".") : std::string(directory)) + "/" + word;
        if (::access(candidate.c_str(), X_OK) == 0) { return candidate; }
        if (colon == std::string_view::npos) { return {}; }
        rest.remove_prefix(colon + 1);
    }
}

std::string next_word(std::string_view& line) {
    constexpr std::string_view k_blank = " \t\r";
    line.remove_prefix(std::min(line.find_first_not_of(k_blank), line.size()));
    const auto word = line.substr(0, line.find_first_of(k_blank));
    line.remove_prefix(word.size());
    return std::string(word);
}

}  // namespace

Visibility look_at_file(std::string_view contents) {
    Elf64_Ehdr header{};
    if (!contents.starts_with(ELFMAG) || !read_at(contents, 0, header)) { return Visibility::seen; }
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != k_machine) { return Visibility::other_machine; }
    bool interpreted = false;
    bool go = false;
    for (std::size_t i = 0; i < header.e_phnum && i < k_max_headers; ++i) {
        Elf64_Phdr segment{};
        if (!read_at(contents, header.e_phoff + i * sizeof segment, segment)) { return Visibility::seen; }
        interpreted = interpreted || segment.p_type == PT_INTERP;
        go = go || (segment.p_type == PT_NOTE && has_go_note(part_of(contents, segment.p_offset, segment.p_filesz)));
    }
    if (go && !imports_sockets(contents, header)) { return Visibility::go; }
    return interpreted ? Visibility::seen : Visibility::statically_linked;
}

std::string interpreter_of(std::string_view contents) {
    if (!contents.starts_with("#!")) { return {}; }
    auto line = contents.substr(2, k_max_first_line);
    line = line.substr(0, line.find('\n'));
    auto word = next_word(line);
    if (!word.ends_with("/env")) { return word; }
    // env [-S] [NAME=VALUE...] PROGRAM
    for (word = next_word(line); !word.empty() && (word.front() == '-' || word.find('=') != std::string::npos);) { word = next_word(line); }
    return word;
}

Visibility look_at_program(const std::string& word) {
    auto program = find_program(word);
    for (int i = 0; i < k_max_interpreters && !program.empty(); ++i) {
        const MappedFile file(program);
        const auto interpreter = interpreter_of(file.contents());
        if (interpreter.empty()) { return look_at_file(file.contents()); }
        program = find_program(interpreter);
    }
    return Visibility::seen;
}

}  // namespace portwrap
