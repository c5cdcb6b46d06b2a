// CLI11 without its ready-made validators. They are objects of every file that includes it, each with strings and a function:
// of our twenty files that made 160 at the start of a program that a prompt or a script starts for one line, and as many to
// destroy at its end. Here their definitions become declarations of functions that nobody calls.
#pragma once

#define ExistingFile ExistingFile()
#define ExistingDirectory ExistingDirectory()
#define ExistingPath ExistingPath()
#define NonexistentPath NonexistentPath()
#define ValidIPV4 ValidIPV4()
#define Number(...) Number()
#define NonNegativeNumber(...) NonNegativeNumber()
#define PositiveNumber(...) PositiveNumber()
#include <CLI/CLI.hpp>
#undef ExistingFile
#undef ExistingDirectory
#undef ExistingPath
#undef NonexistentPath
#undef ValidIPV4
#undef Number
#undef NonNegativeNumber
#undef PositiveNumber
