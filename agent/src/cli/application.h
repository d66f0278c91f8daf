// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "util/context.h"
#include "util/json.h"

namespace CLI {
class App;
}

namespace memplate::cli {

/// One invocation of memplate. A verb's CLI11 callback stores its work in `action`; main() runs it
/// after parsing, prints an Error as one line on stderr and turns it into the exit code.
struct Application {
    Context context;
    bool json = false;  ///< --json: one JSON document on stdout instead of text
    bool quiet = false;
    bool verbose = false;
    std::string config_file;     ///< --config; empty: where Settings::load() looks itself
    bool needs_settings = true;  ///< false: the action also runs when the configuration is invalid
    std::function<Result<int>()> action;  ///< the exit code, or why not
};

/// Prints a JSON document (two-space indent) and a newline to stdout.
void print_json(const Json& document);

/// The whole command tree with its global options; every verb's callback refers to `application`.
void build_commands(CLI::App& root, Application& application);

/// `memplate ARGUMENTS` from parsing to the exit code of the process.
[[nodiscard]] int run_application(int argc, const char* const* argv);

// One function per file of this folder; each adds its noun or verb to the root command.
void add_check_verb(CLI::App& root, Application& application);
void add_pool_verbs(CLI::App& root, Application& application);
void add_template_verbs(CLI::App& root, Application& application);
void add_instance_verbs(CLI::App& root, Application& application);
void add_bench_verbs(CLI::App& root, Application& application);
void add_cost_verbs(CLI::App& root, Application& application);
void add_trace_verbs(CLI::App& root, Application& application);
void add_gpu_verbs(CLI::App& root, Application& application);
void add_criu_verb(CLI::App& root, Application& application);
void add_config_verb(CLI::App& root, Application& application);
/// `completion` and `man`, generated from the tree below `root`.
void add_reference_verbs(CLI::App& root, Application& application);

}  // namespace memplate::cli
