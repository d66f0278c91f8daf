// SPDX-License-Identifier: Apache-2.0
#include "bench/restore.h"

#include <spdlog/logger.h>

#include <algorithm>
#include <map>
#include <thread>

#include "bench/environment.h"
#include "bench/memory.h"
#include "gpu/info.h"
#include "instance/build.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/stats.h"
#include "util/text.h"

namespace memplate::bench {
namespace {

using instance::Instance;

/// A function with its template and the images of every engine under test.
struct Subject {
    Function function;
    Template tmpl;
    std::map<Method, engine::Prepared> images;
};

/// What the runs of one method gave.
struct Samples {
    std::vector<double> ready_ms;
    std::vector<double> first_answer_ms;
    std::vector<double> touch_ms;
    std::vector<std::string> phase_names;
    std::map<std::string, std::vector<double>> phases_ms;
};

engine::Kind engine_of(Method method) {
    switch (method) {
        case Method::lazy:
            return engine::Kind::lazy;
        case Method::mapped:
            return engine::Kind::mapped;
        case Method::attached:
            return engine::Kind::attached;
        default:
            return engine::Kind::copy;
    }
}

/// Answers checked so far in this benchmark. A wrong answer ends it: a fast wrong start is none.
struct Answers {
    uint64_t checked = 0;
};

Result<> measure(const Context& context, const pool::Pool& pool, const criu::Installation& criu,
                 const Subject& subject, Method method, Samples& samples, Answers& answers) {
    std::optional<pool::TemplatePin> pin;
    instance::Source source;
    if (method != Method::cold) {
        TRY_ASSIGN(pin, pool.pin(subject.tmpl.record));
        source = {subject.tmpl.record.name, subject.images.at(method), pin->fd(),
                  subject.tmpl.manifest.gpu()};
    }
    TRY_ASSIGN(auto instance, Instance::prepare(context, subject.function, criu,
                                                method == Method::cold ? nullptr : &source));
    const Stopwatch watch;
    TRY_ASSIGN(auto launched, method == Method::cold ? instance->start() : instance->restore());
    samples.ready_ms.push_back(launched.ready_ms);
    if (!subject.function.warmup.empty()) {
        const double before = watch.milliseconds();
        TRY(instance->request(subject.function.warmup.front()));
        ++answers.checked;
        const double answered = watch.milliseconds();
        samples.first_answer_ms.push_back(answered);
        launched.phases.emplace_back("first answer", answered - before);
    }
    if (subject.function.touch) {
        TRY_ASSIGN(const auto touched, instance->request(*subject.function.touch));
        ++answers.checked;
        samples.touch_ms.push_back(touched.milliseconds);
    }
    for (const auto& [phase, ms] : launched.phases) {
        if (std::ranges::find(samples.phase_names, phase) == samples.phase_names.end())
            samples.phase_names.push_back(phase);
        samples.phases_ms[phase].push_back(ms);
    }
    return {};
}

Json to_json(const Samples& samples) {
    Json json{{"ready_ms", summarize(samples.ready_ms)}};
    if (!samples.first_answer_ms.empty())
        json["first_answer_ms"] = summarize(samples.first_answer_ms);
    if (!samples.touch_ms.empty()) json["touch_ms"] = summarize(samples.touch_ms);
    Json phases = Json::object();
    for (const auto& name : samples.phase_names)
        phases[name] = quantile(samples.phases_ms.at(name), 0.5);
    json["phases_ms"] = std::move(phases);
    return json;
}

Json describe(const Template& tmpl) {
    const PageCounts counts = count_pages(tmpl);
    Json json{{"pages", counts.stored},
              {"mb", static_cast<double>(counts.stored * pool::page_size) / 1e6},
              {"shared_pages", counts.shared},
              {"precopied_pages", counts.precopied},
              {"processes", tmpl.manifest.processes_size()}};
    int threads = 0;
    for (const auto& image : tmpl.manifest.images()) {
        if (image.name().starts_with("core-")) ++threads;
    }
    json["threads"] = threads;
    return json;
}

Result<Subject> build_subject(const Context& context, const std::string& pool_path,
                              const std::string& function_file) {
    Subject subject;
    TRY_ASSIGN(subject.function, Function::load(function_file));
    instance::BuildRequest request;
    request.name = subject.function.name;
    request.pool_path = pool_path;
    request.function = subject.function;
    request.replace = true;
    TRY(instance::build(context, request));
    return subject;
}

Result<Json> bench_function(const Context& context, const RestoreRequest& request,
                            const pool::Pool& pool, const criu::Installation& criu,
                            Subject& subject, Answers& answers) {
    TRY_ASSIGN(subject.tmpl, Template::open(pool, subject.function.name));
    std::vector<Method> measured;
    Json skipped = Json::object();
    for (const Method method : request.methods) {
        if (method != Method::cold) {
            const auto choice = engine::choose(subject.tmpl, engine_of(method));
            if (!choice && choice.error().kind == ErrorKind::unsupported) {
                context.log->warn("method {} is left out: {}", name_of(method),
                                  choice.error().message);
                skipped[std::string(name_of(method))] = choice.error().message;
                continue;
            }
            if (!choice) return Failure(Error(choice.error()));
            for (const auto& warning : choice->warnings) context.log->warn("{}", warning);
            TRY_ASSIGN(subject.images[method],
                       engine::prepare(context, pool, subject.tmpl, engine_of(method)));
        }
        measured.push_back(method);
    }
    std::map<Method, Samples> samples;
    context.progress->step("measuring " + subject.function.name, request.runs * measured.size());
    for (unsigned run = 0; run < request.runs; ++run) {
        for (size_t i = 0; i < measured.size(); ++i) {
            if (context.stop.stop_requested()) return interrupted();
            // Another order in every round, so that no method always follows the same other one.
            const Method method = measured[(i + run) % measured.size()];
            TRY(measure(context, pool, criu, subject, method, samples[method], answers));
            context.progress->advance();
        }
    }
    Json methods = Json::object();
    for (const Method method : measured) {
        Json json = to_json(samples[method]);
        if (request.instances > 0 && method != Method::cold) {
            context.progress->step(fmt::format("memory of {} {} instances, {}", request.instances,
                                               subject.function.name, name_of(method)));
            TRY_ASSIGN(json["memory10_mb"], measure_memory(context, pool, criu, subject.function,
                                                           subject.tmpl, subject.images.at(method),
                                                           request.instances, answers.checked));
        }
        methods[std::string(name_of(method))] = std::move(json);
    }
    // Made here, ended here: the pages of a module pool go with the last of them.
    subject.images.clear();
    Json json{{"name", subject.function.name},
              {"template", describe(subject.tmpl)},
              {"runs", request.runs},
              {"methods", std::move(methods)}};
    if (!skipped.empty()) json["skipped"] = std::move(skipped);
    return json;
}

}  // namespace

std::string_view name_of(Method method) {
    switch (method) {
        case Method::cold:
            return "cold";
        case Method::copy:
            return "copy";
        case Method::lazy:
            return "lazy";
        case Method::mapped:
            return "mapped";
        case Method::attached:
            return "attached";
    }
    return "unknown";
}

Result<std::vector<Method>> parse_methods(const std::string& text) {
    std::vector<Method> methods;
    for (const std::string& word : split(text, ',')) {
        bool known = false;
        for (const Method method :
             {Method::cold, Method::copy, Method::lazy, Method::mapped, Method::attached}) {
            if (word != name_of(method)) continue;
            known = true;
            if (std::ranges::find(methods, method) == methods.end()) methods.push_back(method);
        }
        if (!known)
            return fail(
                ErrorKind::usage,
                fmt::format("method '{}' is not known; use cold, copy, lazy, mapped, attached",
                            word));
    }
    return methods;
}

Result<Json> bench_restore(const Context& context, const RestoreRequest& request) {
    TRY(instance::sweep(context));
    const instance::CleanExit clean_exit(context);
    TRY_ASSIGN(const auto criu, criu::Installation::find(context));
    // The pool lies where a later command finds and removes it if this one is killed.
    TRY_ASSIGN(const auto owner, instance::Directory::create(context, "bench"));
    const std::string directory = instance::build_directory(context, owner.id());
    TRY(make_directories(directory, 0700));
    std::string pool_path = request.pool;
    if (pool_path.empty()) {
        pool_path = directory + "/pool";
        TRY(pool::Pool::create(pool_path, uint64_t{16} << 30));
    }
    std::string uuid;
    {
        TRY_ASSIGN(const auto opened, pool::Pool::open(pool_path));
        uuid = opened.uuid();
    }
    std::vector<Subject> subjects;
    for (const std::string& file : request.function_files) {
        auto subject = build_subject(context, pool_path, file);
        if (!subject) {
            (void)engine::drop_cached(context, uuid, 0);
            return Failure(std::move(subject.error()));
        }
        subjects.push_back(std::move(*subject));
    }
    Json report{{"schema", 1},
                {"generated", iso_time(unix_time())},
                {"command", request.command},
                {"environment", describe_environment(context, {criu.version_text, criu.root})},
                {"functions", Json::array()}};

    if (std::ranges::any_of(subjects, [](const Subject& one) { return one.function.gpu; })) {
        TRY_ASSIGN(report["gpu"], gpu::query_info(context));
    }
    TRY_ASSIGN(const auto pool, pool::Pool::open(pool_path));
    Answers answers;
    Result<> outcome;
    for (Subject& subject : subjects) {
        auto function = bench_function(context, request, pool, criu, subject, answers);
        if (function) {
            report["functions"].push_back(std::move(*function));
            continue;
        }
        outcome = Failure(std::move(function.error()));
        break;
    }
    (void)engine::drop_cached(context, uuid, 0);
    TRY(outcome);
    context.progress->clear();
    report["answers_checked"] = answers.checked;
    report["answers_wrong"] = 0;  // a wrong answer has ended the benchmark with an error
    return report;
}

}  // namespace memplate::bench
