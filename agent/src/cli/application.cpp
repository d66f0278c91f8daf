// SPDX-License-Identifier: Apache-2.0
#include "cli/application.h"

#include <google/protobuf/stubs/common.h>
#include <google/protobuf/stubs/logging.h>
#include <spdlog/logger.h>
#include <spdlog/version.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>

#include "cli/logging.h"
#include "cli/signal_watch.h"
#include "engine/holder.h"

namespace memplate::cli {
namespace {

constexpr const char* examples =
    "Examples:\n"
    "  memplate check                                   what this machine can do\n"
    "  memplate pool create /dev/shm/pool --size 4G     memory for templates\n"
    "  memplate template build --pool /dev/shm/pool --function function.toml\n"
    "  memplate run NAME --pool /dev/shm/pool           a new instance in milliseconds\n"
    "  memplate ps                                      instances of this host\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not possible on this machine, 130 "
    "interrupted.\n"
    "`memplate COMMAND --help` tells more; --json, --quiet, --verbose and --config may also "
    "follow\n"
    "the command.\n";

std::string version_text() {
#if defined(__clang__)
    const std::string compiler = "clang " __clang_version__;
#else
    const std::string compiler = "g++ " __VERSION__;
#endif
#if defined(MEMPLATE_SANITIZED)
    const std::string kind = MEMPLATE_BUILD_TYPE ", sanitizers";
#else
    const std::string kind = MEMPLATE_BUILD_TYPE;
#endif
    return fmt::format(
        "memplate {}\n"
        "start methods: cold copy lazy mapped attached\n"
        "pool media: file dax\n"
        "built with: {}, {}, protobuf {}.{}.{}, CLI11 {}, spdlog {}.{}.{}, nlohmann-json {}.{}.{}",
        MEMPLATE_VERSION, compiler, kind, GOOGLE_PROTOBUF_VERSION / 1000000,
        GOOGLE_PROTOBUF_VERSION / 1000 % 1000, GOOGLE_PROTOBUF_VERSION % 1000, CLI11_VERSION,
        SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH, NLOHMANN_JSON_VERSION_MAJOR,
        NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH);
}

void print_error(const Application& application, std::string_view message) {
    if (application.context.progress) application.context.progress->clear();
    fmt::print(stderr, "memplate: {}\n", message);
}

/// "memplate pool create": the command that was being parsed when an error was found.
std::string innermost_command(const CLI::App& root) {
    std::string name = root.get_name();
    const CLI::App* app = &root;
    while (!app->get_subcommands().empty()) {
        app = app->get_subcommands().front();
        name += " " + app->get_name();
    }
    return name;
}

/// Parses; an exit code if there is nothing more to do.
std::optional<int> parse(CLI::App& root, const Application& application, int argc,
                         const char* const* argv) {
    if (argc < 2) {
        fmt::print(stderr, "{}", root.help());
        return static_cast<int>(ErrorKind::usage);
    }
    try {
        root.parse(argc, argv);
        return std::nullopt;
    } catch (const CLI::Success& help_or_version) {
        return root.exit(help_or_version);
    } catch (const CLI::Error& error) {
        print_error(application,
                    fmt::format("{}; see `{} --help`", error.what(), innermost_command(root)));
        return static_cast<int>(ErrorKind::usage);
    }
}

Result<int> run_action(Application& application) {
    if (!application.action)
        return fail(ErrorKind::usage, "no command given; see `memplate --help`");
    if (application.quiet && application.verbose)
        return fail(ErrorKind::usage, "--quiet and --verbose exclude each other");
    Context& context = application.context;
    context.progress = std::make_shared<Progress>(application.quiet);
    context.log = make_log(application.quiet     ? Verbosity::quiet
                           : application.verbose ? Verbosity::verbose
                                                 : Verbosity::normal,
                           context.progress);
    if (const std::string& file = application.config_file; !file.empty()) {
        if (::access(file.c_str(), R_OK) != 0)
            return fail(ErrorKind::usage,
                        fmt::format("--config {}: {}", file, std::strerror(errno)));
        if (::setenv("MEMPLATE_CONFIG", file.c_str(), 1) != 0) return fail_errno(errno, "setenv");
    }
    if (application.needs_settings) {
        TRY_ASSIGN(context.settings, Settings::load());
    }
    const std::stop_source stop;
    context.stop = stop.get_token();
    TRY_ASSIGN(const SignalWatch signals, SignalWatch::start(stop));
    TRY_ASSIGN(const int code, application.action());
    context.progress->clear();
    // What was printed may still fail to arrive, e.g. on a full disk.
    errno = 0;
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
        return fail_errno(errno != 0 ? errno : EIO, "standard output");
    return code;
}

}  // namespace

void print_json(const Json& document) {
    fmt::print("{}\n", document.dump(2, ' ', false, Json::error_handler_t::replace));
}

void build_commands(CLI::App& root, Application& application) {
    root.name("memplate");
    root.description("Starts serverless functions in milliseconds from shared memory templates.");
    root.get_formatter()->column_width(32);
    root.fallthrough();  // global options may follow the verb
    root.require_subcommand(1);
    root.set_version_flag("-V,--version", version_text,
                          "Print version and build features, and exit");
    root.add_flag("--json", application.json, "Print one JSON document instead of text");
    root.add_flag("-q,--quiet", application.quiet, "No progress and no warnings");
    root.add_flag("-v,--verbose", application.verbose, "Tell on stderr what is being done");
    root.add_option("--config", application.config_file,
                    "Configuration file instead of /etc/memplate/config.toml")
        ->type_name("FILE");

    add_check_verb(root, application);
    add_pool_verbs(root, application);
    add_template_verbs(root, application);
    add_instance_verbs(root, application);
    add_bench_verbs(root, application);
    add_cost_verbs(root, application);
    add_trace_verbs(root, application);
    add_gpu_verbs(root, application);
    add_criu_verb(root, application);
    add_config_verb(root, application);
    add_reference_verbs(root, application);

    root.footer(examples);  // last: subcommands would inherit it
}

int run_application(int argc, const char* const* argv) {
    // Not a command for people: a process that `run` leaves behind, see engine/holder.h.
    if (argc == 3 && std::string_view(argv[1]) == engine::holder_mode)
        return engine::run_holder(argv[2]);
    // A damaged message is our error to report, in one line.
    google::protobuf::SetLogHandler(nullptr);
    Application application;
    try {
        CLI::App root;
        build_commands(root, application);
        if (const auto code = parse(root, application, argc, argv)) return *code;
        auto result = run_action(application);
        if (result) return *result;
        print_error(application, result.error().message);
        if (application.verbose && application.context.log)
            application.context.log->debug("raised in {}:{}", result.error().where.file_name(),
                                           result.error().where.line());
        return static_cast<int>(result.error().kind);
    } catch (const std::exception& error) {
        print_error(application, error.what());
        return static_cast<int>(ErrorKind::failed);
    }
}

}  // namespace memplate::cli
