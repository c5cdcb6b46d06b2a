// What the names in a command say of the server that it runs: `npm run dev:api` and `node src/api.js` run what is called
// api, `npm run dev` and `node server.js` the project's own server, `vim api.js` none. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/shell_words.hpp"

namespace portwrap {

/// The parts of a name, in small letters: "src/Admin-api.js" is src, admin, api, js.
[[nodiscard]] std::vector<std::string> name_parts(std::string_view name);

/// dev, start, serve, ...: the first part of the name of a script that starts something.
[[nodiscard]] bool is_start_word(std::string_view part);

/// The name of the package script or make target that a command runs; empty when it runs none.
[[nodiscard]] std::string_view script_name_of(const SimpleCommand& command);

/// Do arguments behind a command reach what it runs? make and its like take options for their own, and the text after a shell's
/// -c knows them as $0 and $1. `program`: its first word without directories.
[[nodiscard]] bool hands_arguments_on(std::string_view program, const std::vector<std::string>& command);

/// Does the command run what is called `service`: is that, and besides it nothing but words that say nothing (dev, server,
/// src, js), the name of its script, of the file that it interprets, or of the program itself?
[[nodiscard]] bool names_service(const SimpleCommand& command, std::string_view service);

/// Does a word say that something is built, tested or installed?
[[nodiscard]] bool is_other_work_word(std::string_view word);

/// The same of a script's name: "build:web", "db:migrate"; but not "dev:test", which starts something.
[[nodiscard]] bool is_other_work(std::string_view script);

/// Do the commands start a server without saying which: `npm run dev` with `node dist/server.js`? Not `make dev`, ./dev.sh and
/// `node dev.js`: what those start cannot be read. `service`: the one that it would be; no `server.js` is a frontend.
[[nodiscard]] bool is_plain_start(const std::vector<SimpleCommand>& commands, std::string_view service = {});

/// A service whose name says only that it is what one sees of the project: web, app, main, ..., or the project's own name.
[[nodiscard]] bool is_plain_service(std::string_view service, std::string_view project);

}  // namespace portwrap
