// SPDX-License-Identifier: Apache-2.0
#include "instance/run.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "instance/gpu.h"
#include "util/fs.h"

namespace memplate::instance {

Result<> for_each_parallel(unsigned count, unsigned threads,
                           const std::function<Result<>(unsigned)>& task) {
    std::atomic<unsigned> next = 0;
    std::mutex mutex;
    Result<> outcome;
    const auto work = [&] {
        for (;;) {
            const unsigned index = next++;
            if (index >= count) return;
            auto result = task(index);
            if (result) continue;
            next = count;
            const std::lock_guard lock(mutex);
            if (outcome) outcome = std::move(result);
        }
    };
    {
        std::vector<std::jthread> workers;
        for (unsigned i = 1; i < std::min(threads, count); ++i) workers.emplace_back(work);
        work();
    }
    return outcome;
}

Result<Function> function_of(const Template& tmpl) {
    auto function = Function::parse(tmpl.manifest.function_text(),
                                    fmt::format("function of template {}", tmpl.record.name),
                                    tmpl.manifest.function_directory());
    if (!function) return Failure(std::move(function.error()));
    function->directory = tmpl.manifest.function_directory();
    return function;
}

namespace {

/// With `auto`, what cannot be had from the module is had otherwise, and the reason is told.
Result<engine::Prepared> choose_and_prepare(const Context& context, const pool::Pool& pool,
                                            const Template& tmpl,
                                            std::optional<engine::Kind> requested,
                                            engine::Choice& choice) {
    constexpr engine::PrepareOptions options{.keep = engine::Keep::host_wide, .learning = false};
    TRY_ASSIGN(choice, engine::choose(tmpl, requested));
    auto prepared = engine::prepare(context, pool, tmpl, choice.kind, options);
    const bool try_again = !prepared && !requested && choice.kind == engine::Kind::attached &&
                           prepared.error().kind != ErrorKind::interrupted;
    if (!try_again) return prepared;
    const std::string why = prepared.error().message;
    TRY_ASSIGN(choice, engine::choose(tmpl, requested, Failure(std::move(prepared.error()))));
    choice.warnings.push_back(
        fmt::format("template {}: engine attached was not possible: {}", tmpl.record.name, why));
    return engine::prepare(context, pool, tmpl, choice.kind, options);
}

}  // namespace

Result<RunReport> run(const Context& context, const RunRequest& request) {
    TRY(sweep(context));
    const CleanExit clean_exit(context);
    TRY_ASSIGN(const auto criu, criu::Installation::find(context));
    TRY_ASSIGN(const auto pool, pool::Pool::open(request.pool_path));
    TRY_ASSIGN(const auto tmpl, Template::open(pool, request.template_name));
    TRY_ASSIGN(auto function, function_of(tmpl));
    if (request.memory_bytes) function.limits.memory_bytes = request.memory_bytes;
    if (request.cpus) function.limits.cpus = request.cpus;

    RunReport report;
    if (tmpl.manifest.has_gpu()) {
        TRY_ASSIGN(auto checkpointer, gpu::Checkpointer::start(context, std::chrono::minutes(1)));
        TRY_CONTEXT(check_gpu(tmpl.manifest.gpu(), checkpointer, request.count),
                    fmt::format("template {}", tmpl.record.name));
    }
    // Before its pages are read: nobody may reclaim them meanwhile.
    TRY_ASSIGN(const auto first_pin, pool.pin(tmpl.record));
    TRY_ASSIGN(const auto images,
               choose_and_prepare(context, pool, tmpl, request.engine, report.choice));

    const unsigned threads = request.parallel != 0
                                 ? request.parallel
                                 : std::max(1u, std::thread::hardware_concurrency());
    std::vector<pool::TemplatePin> pins;
    for (unsigned i = 0; i < request.count; ++i) {
        TRY_ASSIGN(auto pin, pool.pin(tmpl.record));
        pins.push_back(std::move(pin));
    }
    std::vector<std::unique_ptr<Instance>> instances(request.count);
    context.progress->step("preparing sandboxes", request.count);
    TRY(for_each_parallel(request.count, threads, [&](unsigned i) -> Result<> {
        if (context.stop.stop_requested()) return interrupted();
        const Source source{tmpl.record.name, images, pins[i].fd(), tmpl.manifest.gpu()};
        TRY_ASSIGN(instances[i], Instance::prepare(context, function, criu, &source));
        context.progress->advance();
        return {};
    }));

    std::vector<Launched> launched(request.count);
    context.progress->step("restoring", request.count);
    TRY(for_each_parallel(request.count, threads, [&](unsigned i) -> Result<> {
        if (context.stop.stop_requested()) return interrupted();
        TRY_ASSIGN(launched[i], instances[i]->restore());
        context.progress->advance();
        return {};
    }));

    Record base;
    base.template_name = tmpl.record.name;
    TRY_ASSIGN(base.pool, absolute_path(request.pool_path));
    base.engine = engine::name_of(report.choice.kind);
    for (unsigned i = 0; i < request.count; ++i) {
        auto record = instances[i]->release(launched[i], base);
        if (!record) {
            for (const auto& done : report.instances) (void)stop(context, done.id, 0);
            return Failure(std::move(record.error()));
        }
        report.instances.push_back(std::move(*record));
    }
    context.progress->clear();
    return report;
}

}  // namespace memplate::instance
