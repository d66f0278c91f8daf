// SPDX-License-Identifier: Apache-2.0
//
// memplate criu -- ARGS.
#include <CLI/CLI.hpp>
#include <cstdlib>

#include "cli/application.h"
#include "instance/criu_command.h"

namespace memplate::cli {

void add_criu_verb(CLI::App& root, Application& application) {
    auto* verb = root.add_subcommand(
        "criu", "Run criu; restores go through the engine named by MEMPLATE_ENGINE");
    auto arguments = std::make_shared<std::vector<std::string>>();
    verb->add_option("arguments", *arguments, "Arguments of criu, after --")->required();
    verb->prefix_command();
    verb->footer(
        "MEMPLATE_ENGINE: auto (default), mapped or copy.\n"
        "Example: MEMPLATE_ENGINE=mapped memplate criu -- restore -D images -d");
    verb->callback([&application, verb, arguments] {
        std::vector<std::string> words = *arguments;
        // CLI11 leaves the "--" itself among the words that it did not take.
        for (std::string& word : verb->remaining()) {
            if (word != "--") words.push_back(std::move(word));
        }
        application.action = [&application, words]() -> Result<int> {
            const char* engine = std::getenv("MEMPLATE_ENGINE");
            TRY(instance::exec_criu(application.context, words,
                                    engine != nullptr ? engine : "auto"));
            return 0;
        };
    });
}

}  // namespace memplate::cli
