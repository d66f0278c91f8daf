// SPDX-License-Identifier: Apache-2.0
//
// memplate run, ps, stop, logs.
#include <fmt/format.h>
#include <spdlog/logger.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "cli/application.h"
#include "instance/run.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/proc.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

struct RunOptions {
    instance::RunRequest request;
    std::string engine = "auto";
    std::string memory;
    double cpus = 0;
};

struct StopOptions {
    std::vector<std::string> ids;
    bool all = false;
    int grace_ms = 2000;
};

Json describe(const instance::Record& record) {
    Json json = record.to_json();
    json["uptime_s"] = unix_time() - record.created;
    return json;
}

std::string endpoint(const instance::Record& record) {
    return record.port == 0 ? record.address : fmt::format("{}:{}", record.address, record.port);
}

Result<int> run(Application& application, const RunOptions& options) {
    instance::RunRequest request = options.request;
    TRY_ASSIGN(request.engine, engine::parse_kind(options.engine));
    if (!options.memory.empty()) {
        TRY_ASSIGN(request.memory_bytes, parse_size(options.memory));
    }
    if (options.cpus > 0) request.cpus = options.cpus;
    TRY_ASSIGN(const auto report, instance::run(application.context, request));
    for (const std::string& warning : report.choice.warnings)
        application.context.log->warn("{}", warning);

    if (application.json) {
        Json document{{"schema", 1},
                      {"template", request.template_name},
                      {"engine", engine::name_of(report.choice.kind)},
                      {"reason", report.choice.reason},
                      {"warnings", report.choice.warnings},
                      {"instances", Json::array()}};
        for (const auto& record : report.instances)
            document["instances"].push_back(describe(record));
        print_json(document);
        return 0;
    }
    Table table(
        {{"ID"}, {"ENDPOINT"}, {"PID", Table::Align::right}, {"READY", Table::Align::right}});
    for (const auto& record : report.instances)
        table.add({record.id, endpoint(record), std::to_string(record.pid),
                   format_milliseconds(record.ready_ms)});
    fmt::print("engine {} ({})\n{}", engine::name_of(report.choice.kind), report.choice.reason,
               table.render(wants_colour(STDOUT_FILENO)));
    return 0;
}

/// Memory of all processes of an instance; zero for one that has just ended.
proc::MemoryRollup memory_of(const instance::Record& record) {
    proc::MemoryRollup sum;
    const auto proc = proc::open_host();
    if (!proc) return sum;
    for (const pid_t pid : proc::descendants(proc->get(), record.keeper)) {
        if (const auto rollup = proc::memory_rollup(proc->get(), pid)) sum += *rollup;
    }
    return sum;
}

Result<int> list(Application& application) {
    TRY(instance::sweep(application.context));
    TRY_ASSIGN(const auto records, instance::list(application.context));
    if (application.json) {
        Json document{{"schema", 1}, {"instances", Json::array()}};
        for (const auto& record : records) {
            Json json = describe(record);
            const auto memory = memory_of(record);
            json["pss_bytes"] = memory.pss;
            json["private_bytes"] = memory.private_clean + memory.private_dirty;
            document["instances"].push_back(std::move(json));
        }
        print_json(document);
        return 0;
    }
    Table table({{"ID"},
                 {"TEMPLATE"},
                 {"ENGINE"},
                 {"ENDPOINT"},
                 {"PID", Table::Align::right},
                 {"PSS", Table::Align::right},
                 {"PRIVATE", Table::Align::right},
                 {"UP", Table::Align::right}});
    for (const auto& record : records) {
        const auto memory = memory_of(record);
        table.add({record.id, record.template_name, record.engine, endpoint(record),
                   std::to_string(record.pid), format_size(memory.pss),
                   format_size(memory.private_clean + memory.private_dirty),
                   fmt::format("{} s", unix_time() - record.created)});
    }
    fmt::print("{}",
               records.empty() ? "no instance runs\n" : table.render(wants_colour(STDOUT_FILENO)));
    return 0;
}

Result<int> stop(Application& application, const StopOptions& options) {
    if (options.ids.empty() == !options.all)
        return fail(ErrorKind::usage, "name the instances to stop, or give --all");
    TRY(instance::sweep(application.context));
    std::vector<std::string> ids = options.ids;
    if (options.all) {
        TRY_ASSIGN(const auto records, instance::list(application.context));
        for (const auto& record : records) ids.push_back(record.id);
    }
    Json stopped = Json::array();
    Result<> outcome;
    for (const std::string& id : ids) {
        auto result = instance::stop(application.context, id, options.grace_ms);
        if (result)
            stopped.push_back(id);
        else if (outcome)
            outcome = std::move(result);
    }
    TRY(instance::sweep(application.context));
    if (application.json)
        print_json(Json{{"schema", 1}, {"stopped", stopped}});
    else if (!application.quiet)
        fmt::print("stopped {} instance{}\n", stopped.size(), stopped.size() == 1 ? "" : "s");
    if (!outcome) return Failure(std::move(outcome.error()));
    return 0;
}

Result<int> logs(Application& application, const std::string& id) {
    TRY_ASSIGN(const auto records, instance::list(application.context));
    for (const auto& record : records) {
        if (record.id != id) continue;
        TRY_ASSIGN(const std::string text,
                   read_file(fmt::format("/proc/{}/root{}", record.keeper, instance::output_path)));
        fmt::print("{}", text);
        return 0;
    }
    return fail(fmt::format("no instance {}; memplate ps lists them", id));
}

}  // namespace

void add_instance_verbs(CLI::App& root, Application& application) {
    auto options = std::make_shared<RunOptions>();
    auto* run_verb =
        root.add_subcommand("run", "Restore instances of a template and leave them running");
    run_verb->add_option("template", options->request.template_name, "Template to run")->required();
    run_verb->add_option("--pool", options->request.pool_path, "Pool that holds it")->required();
    run_verb->add_option("-n,--instances", options->request.count, "How many instances")
        ->check(CLI::Range(1, 10000))
        ->capture_default_str();
    run_verb->add_option("--engine", options->engine, "auto, attached, mapped, copy or lazy")
        ->capture_default_str();
    run_verb->add_option("--parallel", options->request.parallel,
                         "Restores under way at once (default: one per CPU)");
    run_verb->add_option("--memory", options->memory, "Memory limit of each, e.g. 256M");
    run_verb->add_option("--cpus", options->cpus, "CPU limit of each, e.g. 0.5");
    run_verb->footer("Example: memplate run big-state --pool pool.mp -n 10");
    run_verb->callback([&application, options] {
        application.action = [&application, options] { return run(application, *options); };
    });

    auto* ps_verb = root.add_subcommand("ps", "List running instances with their memory");
    ps_verb->callback(
        [&application] { application.action = [&application] { return list(application); }; });

    auto stop_options = std::make_shared<StopOptions>();
    auto* stop_verb = root.add_subcommand("stop", "Stop instances and remove all they used");
    stop_verb->add_option("id", stop_options->ids, "Instances, as memplate ps names them");
    stop_verb->add_flag("--all", stop_options->all, "Every instance of this host");
    stop_verb
        ->add_option("--grace-ms", stop_options->grace_ms,
                     "Time between SIGTERM and the end of everything in it")
        ->check(CLI::Range(0, 600000))
        ->capture_default_str();
    stop_verb->callback([&application, stop_options] {
        application.action = [&application, stop_options] {
            return stop(application, *stop_options);
        };
    });

    auto id = std::make_shared<std::string>();
    auto* logs_verb = root.add_subcommand("logs", "Print what an instance wrote since its start");
    logs_verb->add_option("id", *id, "Instance")->required();
    logs_verb->callback([&application, id] {
        application.action = [&application, id] { return logs(application, *id); };
    });
}

}  // namespace memplate::cli
