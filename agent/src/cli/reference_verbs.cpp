// SPDX-License-Identifier: Apache-2.0
//
// memplate completion and memplate man: written from the command tree itself, so that they cannot
// tell anything else than --help.
#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "cli/application.h"
#include "cli/command_tree.h"
#include "cli/completion.h"
#include "cli/man_page.h"
#include "util/fs.h"

namespace memplate::cli {
namespace {

struct ManOptions {
    std::string command;
    std::string output;
};

Result<int> write_pages(const CommandNode& tree, const std::string& directory) {
    TRY(make_directories(directory));
    TRY(write_file_atomic(AT_FDCWD, directory + "/memplate.1", man_page(tree)));
    for (const CommandNode& command : tree.commands)
        TRY(write_file_atomic(AT_FDCWD,
                              fmt::format("{}/memplate-{}.1", directory, command.path.back()),
                              man_page(tree, command)));
    return 0;
}

Result<int> print_page(const CommandNode& tree, const std::string& name) {
    if (name.empty()) {
        fmt::print("{}", man_page(tree));
        return 0;
    }
    const auto command = std::ranges::find_if(
        tree.commands, [&](const CommandNode& node) { return node.path.back() == name; });
    if (command == tree.commands.end())
        return fail(ErrorKind::usage, fmt::format("man: there is no command '{}'; see "
                                                  "`memplate --help`",
                                                  name));
    fmt::print("{}", man_page(tree, *command));
    return 0;
}

}  // namespace

void add_reference_verbs(CLI::App& root, Application& application) {
    auto* completion = root.add_subcommand("completion", "Print shell completion");
    completion->require_subcommand(1);
    completion->add_subcommand("bash", "For bash: source <(memplate completion bash)")
        ->callback([&root, &application] {
            application.needs_settings = false;
            application.action = [&root]() -> Result<int> {
                fmt::print("{}", bash_completion(command_tree(root)));
                return 0;
            };
        });

    auto options = std::make_shared<ManOptions>();
    auto* man = root.add_subcommand("man", "Print the manual page: memplate man | man -l -");
    man->add_option("command", options->command, "Page of this command instead of memplate(1)");
    man->add_option("--output", options->output, "Write the pages of all commands to a directory")
        ->type_name("DIR");
    man->callback([&root, &application, options] {
        application.needs_settings = false;
        application.action = [&root, options] {
            const CommandNode tree = command_tree(root);
            return options->output.empty() ? print_page(tree, options->command)
                                           : write_pages(tree, options->output);
        };
    });
}

}  // namespace memplate::cli
