// See completion.hpp.
#include "completion.hpp"

#include <algorithm>

#include "cli11.hpp"

namespace portwrap {

namespace {

using Words = std::span<const std::string>;

/// The option that a word names, and what the word says of its value: --name=VALUE, -nVALUE.
struct Named {
    const CLI::Option* option = nullptr;
    std::size_t value_at = std::string::npos;  ///< npos: the word has no value
};

Named named_option(const CLI::App& app, const std::string& word) {
    Named named;
    auto name = word;
    if (word.starts_with("--")) {
        if (const auto equals = word.find('='); equals != std::string::npos) {
            name = word.substr(0, equals);
            named.value_at = equals + 1;
        }
    } else if (word.size() > 2) {
        name = word.substr(0, 2);
        named.value_at = 2;
    }
    named.option = app.get_option_no_throw(name);
    // A cluster of flags has no value.
    if (named.option != nullptr && !takes_value(*named.option)) { named.value_at = std::string::npos; }
    return named;
}

std::vector<const CLI::Option*> positionals(const CLI::App& app) {
    return app.get_options([](const CLI::Option* option) { return option->get_positional(); });
}

void split(std::string_view text, char separator, std::vector<std::string>& into) {
    while (!text.empty()) {
        const auto end = std::min(text.find(separator), text.size());
        into.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
}

/// Lists keep what stands before their last comma.
void settle(CursorPlace& place) {
    if (place.option == nullptr || !value_form(*place.option).is_list) { return; }
    if (const auto comma = place.typed.rfind(','); comma != std::string::npos) {
        place.kept += place.typed.substr(0, comma + 1);
        place.typed.erase(0, comma + 1);
    }
}

}  // namespace

std::string CursorPlace::value_of(const CLI::App& app, const std::string& name) const {
    std::string value;
    for (const auto& entry : given) {
        if (entry.first == app.get_option_no_throw(name)) { value = entry.second; }
    }
    return value;
}

bool takes_value(const CLI::Option& option) { return option.get_expected_max() != 0; }

std::vector<std::string> option_names(const CLI::Option& option) {
    std::vector<std::string> names;
    for (const auto& name : option.get_lnames()) { names.push_back("--" + name); }
    for (const auto& name : option.get_snames()) { names.push_back("-" + name); }
    return names;
}

ValueForm value_form(const CLI::Option& option) {
    ValueForm form;
    auto label = option.get_option_text();
    if (label.starts_with('[') && label.ends_with(']')) { label = label.substr(1, label.size() - 2); }
    if (label.ends_with(",...")) {
        form.is_list = true;
        label.resize(label.size() - 4);
    }
    // IsMember describes itself as {a,b,c}.
    const auto type = option.get_type_name();
    if (const auto open = type.find('{'); open != std::string::npos) {
        split(std::string_view(type).substr(open + 1, type.find('}', open) - open - 1), ',', form.literals);
        return form;
    }
    std::vector<std::string> words;
    split(label, '|', words);
    for (auto& word : words) {
        const bool is_kind = std::any_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
        (is_kind ? form.kinds : form.literals).push_back(std::move(word));
    }
    return form;
}

CursorPlace find_cursor(const CLI::App& app, Words words, bool is_prefix) {
    CursorPlace place;
    const CLI::Option* awaiting = nullptr;  // the option whose value comes next
    bool options_ended = false;
    std::size_t seen_words = 0;
    for (std::size_t i = 0; i + 1 < words.size(); ++i) {
        const auto& word = words[i];
        if (awaiting != nullptr && !(awaiting->get_items_expected_min() == 0 && word.starts_with('-'))) {
            place.given.emplace_back(awaiting, word);
            awaiting = nullptr;
            continue;
        }
        awaiting = nullptr;
        if (options_ended || word.size() < 2 || word[0] != '-') {
            if (is_prefix) {
                place.what = CursorPlace::What::command;
                place.command_at = i;
                return place;
            }
            ++seen_words;
        } else if (word == "--") {
            options_ended = true;
        } else if (const auto named = named_option(app, word); named.option != nullptr) {
            const bool has_value = named.value_at != std::string::npos;
            if (takes_value(*named.option) && !has_value) {
                awaiting = named.option;
            } else {
                place.given.emplace_back(named.option, has_value ? word.substr(named.value_at) : std::string());
            }
        }
    }
    const std::string current = words.empty() ? std::string() : words.back();
    if (awaiting != nullptr && !(awaiting->get_items_expected_min() == 0 && current.starts_with('-'))) {
        place.what = CursorPlace::What::value;
        place.option = awaiting;
        place.typed = current;
    } else if (!options_ended && current.starts_with('-')) {
        const auto named = named_option(app, current);
        if (named.option != nullptr && named.value_at != std::string::npos) {
            place.what = CursorPlace::What::value;
            place.option = named.option;
            place.kept = current.substr(0, named.value_at);
            place.typed = current.substr(named.value_at);
        } else {
            place.what = CursorPlace::What::option;
            place.typed = current;
        }
    } else if (is_prefix) {
        place.what = CursorPlace::What::command;
        place.command_at = words.empty() ? 0 : words.size() - 1;
        place.typed = current;
    } else {
        const auto all = positionals(app);
        if (seen_words < all.size()) {
            place.what = CursorPlace::What::value;
            place.option = all[seen_words];
        } else if (!options_ended && current.empty()) {
            place.what = CursorPlace::What::option;
        }
        place.typed = current;
    }
    settle(place);
    return place;
}

}  // namespace portwrap
