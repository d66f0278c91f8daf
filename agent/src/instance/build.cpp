// SPDX-License-Identifier: Apache-2.0
#include "instance/build.h"

#include <fcntl.h>
#include <spdlog/logger.h>
#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <thread>

#include "instance/hazards.h"
#include "template/store.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/text.h"

namespace memplate::instance {
namespace {

/// A checkpoint with what was learnt while the function ran.
struct Checkpoint {
    std::string directory;
    std::unique_ptr<Instance> instance;  ///< keeps `directory` from being swept; then removes it
    std::vector<proto::Hazard> hazards;
    Phases phases;
    proto::GpuState gpu;
};

/// Waits until no TCP connection of the sandbox is established or half closed: CRIU refuses those,
/// and the last warm-up answer may still be on its way.
void wait_for_quiet_network(pid_t keeper) {
    const auto busy = [&] {
        for (const char* table : {"tcp", "tcp6"}) {
            const auto text = read_file(fmt::format("/proc/{}/net/{}", keeper, table));
            if (!text) continue;
            for (const std::string& line : split(*text, '\n')) {
                const auto words = split(trim(line), ' ');
                // "sl local remote st …"; 0A is LISTEN, 06 TIME_WAIT: neither is held by a process
                if (words.size() < 4 || words[0] == "sl") continue;
                if (words[3] != "0A" && words[3] != "06") return true;
            }
        }
        return false;
    };
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (busy() && std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

proto::Hazard not_watched(const std::string& why) {
    proto::Hazard hazard;
    hazard.set_kind(proto::HAZARD_UNTRACED);
    hazard.set_evidence("madvise and mremap could not be watched during warm-up: " + why);
    return hazard;
}

Result<> warm_up_watched(Instance& instance, std::vector<proto::Hazard>& hazards) {
    auto recorder = SyscallRecorder::start();
    if (!recorder) {
        hazards.push_back(not_watched(recorder.error().message));
        return instance.warm_up();
    }
    std::vector<SyscallRecorder::Record> records;
    // After every request: the kernel's buffers are small.
    TRY(instance.warm_up([&]() -> Result<> {
        TRY_ASSIGN(const auto more, recorder->drain());
        records.insert(records.end(), more.begin(), more.end());
        return {};
    }));
    if (recorder->lost() > 0)
        hazards.push_back(not_watched(fmt::format("{} events were lost", recorder->lost())));
    TRY_ASSIGN(const auto pids, instance.host_pids());
    std::map<pid_t, pid_t> inside;
    for (const auto& [in, host] : pids) inside.emplace(host, in);
    auto seen = judge_calls(records, inside);
    std::ranges::move(seen, std::back_inserter(hazards));
    return {};
}

Result<Checkpoint> run_and_checkpoint(const Context& context, const BuildRequest& request,
                                      const criu::Installation& criu) {
    Checkpoint checkpoint;
    context.progress->step(fmt::format("starting {}", request.function.name));
    TRY_ASSIGN(auto instance, Instance::prepare(context, request.function, criu, nullptr));
    TRY_ASSIGN(const auto launched, instance->start());
    checkpoint.phases.emplace_back("start", launched.ready_ms);

    Stopwatch watch;
    context.progress->step(fmt::format("warming up {}", request.function.name));
    TRY(warm_up_watched(*instance, checkpoint.hazards));
    checkpoint.phases.emplace_back("warm-up", watch.milliseconds());

    watch.restart();
    context.progress->step(fmt::format("checkpointing {}", request.function.name));
    wait_for_quiet_network(instance->sandbox().keeper());
    // Named after the instance: sweep() removes it if we die.
    checkpoint.directory = build_directory(context, instance->directory().id());
    TRY(make_private_directory(context.settings.cache_dir));
    TRY(make_directories(checkpoint.directory, 0700));
    TRY_ASSIGN(checkpoint.gpu, instance->checkpoint(checkpoint.directory));
    if (request.function.gpu && checkpoint.gpu.processes().empty())
        context.log->warn("function {}: gpu = true, but no process uses CUDA after the warm-up",
                          request.function.name);
    checkpoint.phases.emplace_back("checkpoint", watch.milliseconds());

    TRY_ASSIGN(UniqueFd directory, open_at(AT_FDCWD, checkpoint.directory, O_RDONLY | O_DIRECTORY));
    TRY_ASSIGN(const auto images, criu::ImageSet::load(directory.get()));
    auto allocators = find_allocators(images, instance->sandbox().host_path(""));
    std::ranges::move(allocators, std::back_inserter(checkpoint.hazards));
    checkpoint.instance = std::move(instance);
    return checkpoint;
}

Result<Checkpoint> take_images(const BuildRequest& request) {
    Checkpoint checkpoint;
    checkpoint.directory = request.images_directory;
    TRY_ASSIGN(UniqueFd directory, open_at(AT_FDCWD, checkpoint.directory, O_RDONLY | O_DIRECTORY));
    TRY_ASSIGN(const auto images, criu::ImageSet::load(directory.get()));
    checkpoint.hazards = find_allocators(
        images, request.function.root == "/" ? std::string() : request.function.root);
    checkpoint.hazards.push_back(not_watched("the template comes from existing images"));
    return checkpoint;
}

Result<pool::TemplateRecord> store(const Context& context, const BuildRequest& request,
                                   const criu::Installation& criu, const Checkpoint& checkpoint,
                                   pool::Writer& writer, std::vector<proto::Hazard>& hazards) {
    TRY_ASSIGN(UniqueFd directory, open_at(AT_FDCWD, checkpoint.directory, O_RDONLY | O_DIRECTORY));
    auto images = criu::ImageSet::load(directory.get());
    if (!images) return Failure(std::move(images.error()).context(checkpoint.directory));
    hazards = checkpoint.hazards;
    auto wiped = find_wiped_areas(*images);
    std::ranges::move(wiped, std::back_inserter(hazards));

    proto::Manifest manifest;
    manifest.set_version(manifest_version);
    manifest.set_name(request.name);
    manifest.set_created(unix_time());
    utsname name{};
    ::uname(&name);
    manifest.set_kernel(static_cast<const char*>(name.release));
    manifest.set_criu_version(static_cast<uint32_t>(criu.version));
    manifest.set_function_text(request.function.text);
    manifest.set_function_directory(request.function.directory);
    for (const auto& hazard : hazards) *manifest.add_hazards() = hazard;
    if (!checkpoint.gpu.processes().empty()) *manifest.mutable_gpu() = checkpoint.gpu;

    LayoutOptions options;
    options.unshared = unshared_areas(hazards);
    StoreProgress progress;
    progress.begin = [&](uint64_t pages) { context.progress->step("storing pages", pages); };
    progress.advance = [&](uint64_t pages) { context.progress->advance(pages); };
    TRY(writer.begin(request.name, request.function.domain));
    PoolPageStore pages(writer);
    TRY(store_images(directory.get(), *images, options, pages, manifest, progress));
    for (const auto& extent : pages.extents()) {
        manifest.add_extents(extent.first);
        manifest.add_extents(extent.count);
    }
    if (context.stop.stop_requested()) return interrupted();
    return writer.commit(manifest.SerializeAsString(), request.replace);
}

}  // namespace

std::string profile_obstacle(const Template& tmpl, const Function& function) {
    const auto choice = engine::choose(tmpl, {});
    if (!choice) return choice.error().message;
    // Only shared pages show who touches them.
    if (choice->kind == engine::Kind::copy) return "engine copy is used: " + choice->reason;
    if (function.port == 0 || function.warmup.empty())
        return "the function file has no port or no warm-up requests";
    return {};
}

Result<BuildReport> build(const Context& context, const BuildRequest& request) {
    TRY(check_name("template name", request.name));
    const CleanExit clean_exit(context);
    TRY_ASSIGN(const auto criu, criu::Installation::find(context));
    TRY_ASSIGN(auto pool, pool::Pool::open(request.pool_path, pool::OpenMode::read_write));
    // The lease first: better told now than after minutes of work.
    TRY_ASSIGN(auto writer, pool::Writer::acquire(pool, "template build " + request.name));
    if (!request.replace && pool.find(request.name))
        return fail(ErrorKind::usage,
                    fmt::format("template {} exists in {}; give --replace to replace it",
                                request.name, request.pool_path));

    BuildReport report;
    {
        TRY_ASSIGN(const auto checkpoint, request.images_directory.empty()
                                              ? run_and_checkpoint(context, request, criu)
                                              : take_images(request));
        report.phases = checkpoint.phases;
        const Stopwatch watch;
        TRY_ASSIGN(report.record,
                   store(context, request, criu, checkpoint, writer, report.hazards));
        report.phases.emplace_back("store", watch.milliseconds());
    }
    TRY_ASSIGN(auto tmpl, Template::open(pool, request.name));
    report.profile_skipped =
        request.profile ? profile_obstacle(tmpl, request.function) : "not wanted (--no-profile)";
    if (report.profile_skipped.empty()) {
        const Stopwatch watch;
        context.progress->step(fmt::format("profiling {}", request.name));
        auto profile = learn_profile(context, pool, tmpl, request.function, criu);
        if (!profile)
            return Failure(
                std::move(profile.error())
                    .context(fmt::format("template {} is stored but not profiled", request.name)));
        TRY_ASSIGN(report.record, writer.store_profile(request.name, profile->SerializeAsString()));
        report.phases.emplace_back("profile", watch.milliseconds());
        TRY_ASSIGN(tmpl, Template::open(pool, request.name));
    }
    report.pages = count_pages(tmpl);
    context.progress->clear();
    return report;
}

}  // namespace memplate::instance
