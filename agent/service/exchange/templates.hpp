// Snippets of configuration with the real port in them. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.hpp"

namespace portwrap {

struct Template {
    std::string_view kind;
    std::string_view description;
    std::string_view text;  ///< with @PORT@, @SERVICE@, @VARIABLE@, @PROJECT@, @ROOT@, @HOST@, @INSIDE@
};
[[nodiscard]] const std::vector<Template>& all_templates();
[[nodiscard]] const Template* find_template(std::string_view kind);

struct TemplateValues {
    Port port = 0;
    Port inside = 0;  ///< that the program inside a container listens on
    std::string service;
    std::string variable;
    std::string project;
    std::string root;
    std::string host;
};
/// A project's or service's name where any snippet may have it: what could end a string or begin a directive becomes "-". A repository's
/// own file says how its project is called, and nobody reads a snippet twice.
[[nodiscard]] std::string plain_name(std::string_view name);
/// "My Shop" is my-shop.localhost.
[[nodiscard]] std::string host_of(std::string_view project);
[[nodiscard]] std::string fill_template(const Template& chosen, const TemplateValues& values);

}  // namespace portwrap
