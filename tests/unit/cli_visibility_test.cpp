// What a preload library can see, told by a program's file; and what portwrap leaves for another portwrap.
#include <catch2/catch.hpp>

#include <elf.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <map>

#include "launch.hpp"
#include "visibility.hpp"

using namespace portwrap;

namespace {

template <typename T>
void put(std::string& file, std::size_t at, const T& value) {
    if (file.size() < at + sizeof value) { file.resize(at + sizeof value); }
    std::memcpy(file.data() + at, &value, sizeof value);
}

/// An ELF file of this machine with an interpreter, a note of Go's, and imports, each where wanted.
std::string elf_file(bool interpreted, bool go, const std::string& import) {
    std::string own;
    {
        std::ifstream self("/proc/self/exe", std::ios::binary);
        own.assign(std::istreambuf_iterator<char>(self), {});
    }
    Elf64_Ehdr header{};
    std::memcpy(&header, own.data(), sizeof header);
    header.e_phoff = 0x100;
    header.e_phnum = 2;
    header.e_shoff = 0x800;
    header.e_shnum = 2;
    std::string file;
    put(file, 0, header);
    Elf64_Phdr interpreter{};
    interpreter.p_type = interpreted ? PT_INTERP : PT_LOAD;
    put(file, 0x100, interpreter);
    Elf64_Phdr note{};
    note.p_type = go ? PT_NOTE : PT_LOAD;
    note.p_offset = 0x400;
    note.p_filesz = sizeof(Elf64_Nhdr) + 4 + 8;
    put(file, 0x100 + sizeof note, note);
    put(file, 0x400, Elf64_Nhdr{4, 8, 4});
    file.resize(0x1000);
    std::memcpy(file.data() + 0x400 + sizeof(Elf64_Nhdr), "Go\0\0", 4);
    Elf64_Shdr symbols{};
    symbols.sh_type = SHT_DYNSYM;
    symbols.sh_link = 1;
    symbols.sh_offset = 0x900;
    symbols.sh_size = 2 * sizeof(Elf64_Sym);
    put(file, 0x800, symbols);
    Elf64_Shdr strings{};
    strings.sh_type = SHT_STRTAB;
    strings.sh_offset = 0xa00;
    strings.sh_size = 32;
    put(file, 0x800 + sizeof symbols, strings);
    Elf64_Sym symbol{};
    symbol.st_name = 1;
    put(file, 0x900 + sizeof symbol, symbol);
    std::memcpy(file.data() + 0xa01, import.data(), import.size());
    return file;
}

}  // namespace

TEST_CASE("programs that make their own system calls are told by their files", "[visibility]") {
    CHECK(look_at_file(elf_file(true, false, "bind")) == Visibility::seen);
    CHECK(look_at_file(elf_file(true, false, "puts")) == Visibility::seen);
    CHECK(look_at_file(elf_file(false, false, "bind")) == Visibility::statically_linked);
    CHECK(look_at_file(elf_file(false, true, "puts")) == Visibility::go);
    CHECK(look_at_file(elf_file(true, true, "puts")) == Visibility::go);
    CHECK(look_at_file(elf_file(true, true, "bind")) == Visibility::seen);
    CHECK(look_at_file(elf_file(true, true, "binder")) == Visibility::go);
}

TEST_CASE("a program of another machine is told, and what is no program is left to exec", "[visibility]") {
    auto file = elf_file(true, false, "bind");
    file[EI_CLASS] = ELFCLASS32;
    CHECK(look_at_file(file) == Visibility::other_machine);
    for (const std::string odd : {"", "#!/bin/sh\n", "\x7f" "ELF", "hello"}) { CHECK(look_at_file(odd) == Visibility::seen); }
}

TEST_CASE("a file that is cut off or garbled is read within its bounds", "[visibility]") {
    const auto file = elf_file(true, true, "bind");
    for (std::size_t size = 0; size < file.size(); size += 7) { (void)look_at_file(std::string_view(file).substr(0, size)); }
    for (std::size_t at = 16; at < 64; ++at) {
        auto garbled = file;
        garbled[at] = static_cast<char>(0xff);
        (void)look_at_file(garbled);
    }
    for (const std::size_t table : {std::size_t{0x100}, std::size_t{0x400}, std::size_t{0x800}, std::size_t{0x840}, std::size_t{0x900}}) {
        for (std::size_t at = table; at < table + 64; ++at) {
            auto garbled = file;
            garbled[at] = static_cast<char>(0xff);
            (void)look_at_file(garbled);
        }
    }
    SUCCEED();
}

TEST_CASE("the interpreter of a script is found, also behind env", "[visibility]") {
    CHECK(interpreter_of("#!/bin/sh\necho") == "/bin/sh");
    CHECK(interpreter_of("#! /usr/bin/python3 -u\n") == "/usr/bin/python3");
    CHECK(interpreter_of("#!/usr/bin/env node\n") == "node");
    CHECK(interpreter_of("#!/usr/bin/env -S A=1 node --x\n") == "node");
    CHECK(interpreter_of("#!/usr/bin/env") == "");
    CHECK(interpreter_of("#!") == "");
    CHECK(interpreter_of("hello") == "");
}

TEST_CASE("what portwrap set is recognised as long as its value is the same", "[launch]") {
    const auto record = record_of({{"PORT", "3001"}, {"API_URL", "http://localhost:4000,x"}});
    std::map<std::string, std::string> environment{{"PORT", "3001"}, {"API_URL", "http://localhost:4000,x"}};
    const auto value_of = [&](const char* name) -> const char* {
        const auto found = environment.find(name);
        return found == environment.end() ? nullptr : found->second.c_str();
    };
    CHECK(names_of_record(record, value_of) == std::vector<std::string>{"PORT", "API_URL"});
    environment["PORT"] = "3002";
    CHECK(names_of_record(record, value_of) == std::vector<std::string>{"API_URL"});
    environment.clear();
    CHECK(names_of_record(record, value_of).empty());
    for (const char* odd : {"", ",", "=", "PORT", "PORT=", "PORT=3001", "=,=,", ",,PORT=0"}) { CHECK(names_of_record(odd, value_of).empty()); }
}

TEST_CASE("the sanitizer's option is added to the user's, who may say otherwise", "[launch]") {
    CHECK(asan_options("") == "verify_asan_link_order=0");
    CHECK(asan_options("detect_leaks=0") == "detect_leaks=0:verify_asan_link_order=0");
    CHECK(asan_options("verify_asan_link_order=1") == "verify_asan_link_order=1");
}
