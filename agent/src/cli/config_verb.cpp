// SPDX-License-Identifier: Apache-2.0
//
// memplate config: what the configuration files say, and whether they are right.
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/application.h"
#include "util/table.h"

namespace memplate::cli {
namespace {

struct Options {
    bool check = false;
    bool print_default = false;
};

Json settings_json(const Settings& settings) {
    return Json{{"state_dir", settings.state_dir},
                {"cache_dir", settings.cache_dir},
                {"criu_root", settings.criu_root},
                {"bridge", settings.bridge},
                {"subnet", settings.subnet},
                {"lazy_above", settings.lazy_above},
                {"hold_seconds", settings.hold_seconds}};
}

Result<int> run(const Application& application, const Options& options) {
    if (options.print_default) {
        fmt::print("{}", Settings::documentation());
        return 0;
    }
    TRY_ASSIGN(const Settings settings, Settings::load());
    const Json values = settings_json(settings);
    if (application.json) {
        print_json({{"schema", 1}, {"settings", values}});
    } else if (options.check) {
        if (!application.quiet) fmt::print("the configuration is valid\n");
    } else {
        Table table({{"KEY"}, {"VALUE"}});
        for (const auto& [key, value] : values.items()) {
            const auto text = value.get<std::string>();
            table.add({key, text.empty() ? "(chosen when needed)" : text});
        }
        fmt::print("{}", table.render(wants_colour(1)));
    }
    return 0;
}

}  // namespace

void add_config_verb(CLI::App& root, Application& application) {
    auto options = std::make_shared<Options>();
    auto* verb = root.add_subcommand("config", "Show or check the configuration in effect");
    verb->add_flag("--check", options->check, "Only check: exit code 2 and the line at fault");
    verb->add_flag("--print-default", options->print_default,
                   "Print a commented configuration file with every key at its default");
    verb->callback([&application, options] {
        application.needs_settings = false;  // a wrong file must not keep --print-default from us
        application.action = [&application, options] { return run(application, *options); };
    });
}

}  // namespace memplate::cli
