// SPDX-License-Identifier: Apache-2.0
#include "cli/command_tree.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>

#include "util/text.h"

namespace memplate::cli {
namespace {

/// CLI11 writes "TEXT", "FILE", "TEXT:{a,b}", "TEXT:FILE", "PATH(existing):…": type, then one part
/// for every validator.
void read_type(const std::string& type, OptionNode& node) {
    const size_t open = type.find('{');
    const size_t close = type.rfind('}');
    node.value_name = type.substr(0, type.find(':'));
    if (open != std::string::npos && close != std::string::npos && open < close) {
        node.kind = ValueKind::choice;
        for (const std::string& choice : split(type.substr(open + 1, close - open - 1), ','))
            // A map of names to values is written "name->value".
            node.choices.emplace_back(trim(choice.substr(0, choice.find("->"))));
        node.value_name.clear();
        for (const std::string& choice : node.choices)
            node.value_name += (node.value_name.empty() ? "" : "|") + choice;
    } else if (type.find("DIR") != std::string::npos) {
        node.kind = ValueKind::directory;
        node.value_name = "DIR";
    } else if (type.find("FILE") != std::string::npos || type.find("PATH") != std::string::npos) {
        node.kind = ValueKind::file;
        node.value_name = type.find("FILE") != std::string::npos ? "FILE" : "PATH";
    } else {
        node.kind = ValueKind::text;
    }
}

OptionNode option_node(const CLI::Option& option) {
    OptionNode node;
    node.positional = option.nonpositional() ? false : option.get_positional();
    if (node.positional) {
        node.names.push_back(option.get_single_name());
    } else {
        for (const std::string& name : option.get_snames()) node.names.push_back("-" + name);
        for (const std::string& name : option.get_lnames()) node.names.push_back("--" + name);
    }
    node.required = option.get_required();
    node.repeatable = option.get_expected_max() > 1;
    node.description = option.get_description();
    node.default_value = option.get_default_str();
    // A flag takes no value; its help prints none either.
    if (option.get_items_expected_max() > 0) read_type(option.get_type_name(), node);
    return node;
}

CommandNode node_of(const CLI::App& app, std::vector<std::string> path) {
    CommandNode node;
    node.description = app.get_description();
    node.footer = app.get_footer();
    for (const CLI::Option* option : app.get_options()) {
        if (!option->get_group().empty()) node.options.push_back(option_node(*option));
    }
    for (const CLI::App* command : app.get_subcommands(nullptr)) {
        if (command->get_group().empty() || command->get_name().empty()) continue;
        std::vector<std::string> inner = path;
        inner.push_back(command->get_name());
        node.commands.push_back(node_of(*command, std::move(inner)));
    }
    node.path = std::move(path);
    return node;
}

}  // namespace

CommandNode command_tree(const CLI::App& root) {
    return node_of(root, {});
}

}  // namespace memplate::cli
