// Can a preload library see what a program does? Not in programs that make their own system calls: static ones, and all
// that is written in Go, also when it is dynamically linked, which its imports tell.
#pragma once

#include <string>
#include <string_view>

namespace portwrap {

enum class Visibility {
    seen,          ///< or unknown
    go,            ///< written in Go, and imports neither bind nor connect
    statically_linked,
    other_machine, ///< of another word size or processor: the library cannot be loaded
};

/// The program that execvp would run for `word`; of scripts, their interpreter.
[[nodiscard]] Visibility look_at_program(const std::string& word);

/// The contents of a file: an ELF file by its headers, notes and imports; anything else is seen. Never reads beyond the end.
[[nodiscard]] Visibility look_at_file(std::string_view contents);

/// The interpreter of a script and its argument ("#!/usr/bin/env node"), empty when it has none.
[[nodiscard]] std::string interpreter_of(std::string_view contents);

}  // namespace portwrap
