// Hooks of other people's, and ours in them.
#include <catch2/catch.hpp>

#include "hook_script.hpp"

using namespace portwrap;

TEST_CASE("a script's first line says whether our lines can stand in it", "[hook_script]") {
    for (const auto* text : {"", "echo x\n", "#!/bin/sh\n", "#! /bin/bash -eu\n", "#!/usr/bin/env bash\n", "#!/usr/bin/env -S bash\n", "#!/usr/bin/env -S bash -eu\nx",
                             "#!/usr/bin/env -Sbash -e\n", "#!/usr/bin/env -S LANG=C zsh\n", "#!/usr/bin/env -i dash\n", "#!/bin/ksh", "#!/bin/sh\r\n"}) {
        INFO(text);
        CHECK(is_shell_script(text));
    }
    for (const auto* text : {"#!/usr/bin/env python3\n", "#!/usr/bin/env -S node --no-warnings\n", "#!/usr/bin/fish\n", "#!/usr/bin/perl /bin/sh\n", "#!", "#!\nsh", "#!/usr/bin/env\nsh\n"}) {
        INFO(text);
        CHECK_FALSE(is_shell_script(text));
    }
    CHECK_FALSE(is_shell_script(std::string_view("\177ELF\0", 5)));
}

TEST_CASE("a hook is left as it was found, and only a file of ours goes", "[hook_script]") {
    for (const std::string found : {"", "#!/bin/sh\n", "echo theirs\n", "#!/bin/sh\necho theirs\nexit 0\n"}) {
        INFO(found);
        auto text = with_hook(found);
        REQUIRE(text);
        CHECK(text->find("portctl hooks run") != std::string::npos);
        CHECK(with_hook(*text).value() == *text);
        CHECK(without_hook(*text).value() == found);
        CHECK(without_hook(found).value() == found);
    }
    const auto made = with_hook(std::nullopt).value();
    CHECK(made.starts_with("#!/bin/sh\n"));
    CHECK(with_hook(made).value() == made);
    CHECK_FALSE(without_hook(made).value());
    CHECK(without_hook(made + "echo theirs\n").value() == "#!/bin/sh\necho theirs\n");
}

TEST_CASE("of Husky's directories the one with the user's scripts is meant", "[hook_script]") {
    CHECK(hook_place("/r/.git/hooks", false).path == "/r/.git/hooks/post-checkout");
    CHECK(hook_place("/r/.husky", false).path == "/r/.husky/post-checkout");
    CHECK_FALSE(hook_place("/r/.husky", false).husky);
    CHECK(hook_place("/r/.husky/_", false).path == "/r/.husky/post-checkout");
    CHECK(hook_place("/r/web/.husky/_", false).husky);
    CHECK(hook_place("/r/tools/hooks/_", true).path == "/r/tools/hooks/post-checkout");
    CHECK_FALSE(hook_place("/r/hooks/_", false).husky);
    CHECK_FALSE(hook_place("/r/hooks", true).husky);
}
