// SPDX-License-Identifier: Apache-2.0
//
// memplate gpu ipc.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "bench/environment.h"
#include "cli/gpu_verbs.h"
#include "gpu/ipc.h"
#include "util/fs.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

constexpr uint64_t smallest = 1 << 10;
constexpr uint64_t largest = 4ULL << 30;  // StreamBox's frame has 32 bits for it

struct Options {
    GpuOptions gpu;
    std::string from = "4K";
    std::string to = "1G";
    unsigned factor = 4;
    std::vector<std::string> sizes;
    std::vector<std::string> transports;
    unsigned runs = 20;
    unsigned warm_up = 3;
    std::string format = "memplate";
    std::string html_path;
};

Result<uint64_t> message_size(const std::string& option, const std::string& text) {
    TRY_ASSIGN(const uint64_t bytes, parse_size(text));
    if (bytes < smallest || bytes >= largest || bytes % 4 != 0)
        return fail(ErrorKind::usage,
                    fmt::format("{} {}: a message has 1K to less than 4G, in whole floats of 4 B",
                                option, text));
    return bytes;
}

/// What is asked for twice would stand in one table twice.
template <class List>
Result<> check_once(const char* option, List list) {
    std::ranges::sort(list);
    if (const auto twice = std::ranges::adjacent_find(list); twice != list.end())
        return fail(ErrorKind::usage, fmt::format("{} {}: given twice", option, *twice));
    return {};
}

Result<gpu::IpcOptions> ipc_options(const Options& options) {
    gpu::IpcOptions result;
    result.device = options.gpu.device;
    result.runs = options.runs;
    result.warm_up = options.warm_up;
    result.patience =
        std::chrono::milliseconds(static_cast<int64_t>(options.gpu.timeout_seconds * 1000));
    TRY(check_once("--transports", options.transports));
    result.transports = options.transports;
    for (const std::string& text : options.sizes) {
        TRY_ASSIGN(const uint64_t bytes, message_size("--size", text));
        result.sizes.push_back(bytes);
    }
    TRY(check_once("--size", result.sizes));
    if (!result.sizes.empty()) return result;
    TRY_ASSIGN(const uint64_t low, message_size("--from", options.from));
    TRY_ASSIGN(const uint64_t high, message_size("--to", options.to));
    if (high < low)
        return fail(ErrorKind::usage,
                    fmt::format("--to {}: is less than --from {}", options.to, options.from));
    result.sizes = gpu::size_sweep(low, high, options.factor);
    return result;
}

std::vector<std::string> transport_names() {
    std::vector<std::string> names;
    for (const gpu::Transport& transport : gpu::transports) names.emplace_back(transport.name);
    return names;
}

Result<int> gpu_ipc(const Application& application, const Options& options) {
    TRY_ASSIGN(const gpu::IpcOptions request, ipc_options(options));
    if (options.format == "streambox") {
        TRY_ASSIGN(const std::string text, gpu::run_streambox_ipc(application.context, request));
        fmt::print("{}", text);
        return 0;
    }
    TRY_ASSIGN(Json report, gpu::run_ipc(application.context, request));
    report["environment"] = describe_environment(application.context);
    if (!options.html_path.empty())
        TRY(write_file_atomic(AT_FDCWD, options.html_path, gpu::ipc_html(report)));
    if (application.json) {
        print_json(report);
        return 0;
    }
    fmt::print("{}", gpu::ipc_text(report, wants_colour(STDOUT_FILENO)));
    if (!options.html_path.empty()) fmt::print("page:  {}\n", options.html_path);
    return 0;
}

}  // namespace

void add_gpu_ipc(CLI::App& noun, Application& application) {
    auto options = std::make_shared<Options>();
    auto* verb = noun.add_subcommand(
        "ipc", "Hand data in GPU memory from process to process, by every transport there is");
    verb->add_option("--from", options->from, "Smallest message")
        ->type_name("SIZE")
        ->capture_default_str();
    verb->add_option("--to", options->to, "Largest message")
        ->type_name("SIZE")
        ->capture_default_str();
    verb->add_option("--factor", options->factor, "From one size to the next")
        ->check(CLI::Range(2U, 1U << 20))
        ->capture_default_str();
    verb->add_option("--size", options->sizes, "These sizes instead; repeatable")
        ->type_name("SIZE");
    verb->add_option(
            "--transports", options->transports,
            "Of pipe, unix, tcp, shm, shm-pinned, ipc, ipc-kept, vmm-fd, streams; default: "
            "all that this machine can do")
        ->delimiter(',')
        ->check(CLI::IsMember(transport_names()))
        ->type_name("LIST");
    verb->add_option("--runs", options->runs, "Messages of each size by each transport")
        ->check(CLI::Range(1U, 1'000'000U))
        ->capture_default_str();
    verb->add_option("--warm-up", options->warm_up, "Messages before them that do not count")
        ->check(CLI::Range(0U, 1'000'000U))
        ->capture_default_str();
    verb->add_option("--format", options->format,
                     "streambox: its two experiments and the lines it prints")
        ->check(CLI::IsMember({"memplate", "streambox"}))
        ->capture_default_str();
    verb->add_option("--html", options->html_path, "Write a self-contained page with charts");
    add_gpu_options(*verb, options->gpu);
    verb->footer("Example: memplate gpu ipc --to 256M --runs 50 --html ipc.html");
    verb->callback([&application, options] {
        application.needs_settings = false;
        application.action = [&application, options] { return gpu_ipc(application, *options); };
    });
}

}  // namespace memplate::cli
