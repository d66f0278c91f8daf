// SPDX-License-Identifier: Apache-2.0
//
// memplate template build, list, verify, diff, rm. The verbs that print one template in detail are
// in template_views.cpp.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "cli/application.h"
#include "cli/template_views.h"
#include "engine/pages_in_use.h"
#include "instance/build.h"
#include "template/inspect.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

using Options = TemplateOptions;

Result<int> build(Application& application, const Options& options) {
    instance::BuildRequest request;
    request.name = options.name;
    request.pool_path = options.pool;
    TRY_ASSIGN(request.function, Function::load(options.function));
    request.images_directory = options.images;
    request.replace = options.replace;
    request.profile = !options.no_profile;
    TRY(instance::sweep(application.context));
    TRY_ASSIGN(const auto report, instance::build(application.context, request));
    TRY_ASSIGN(const auto pool, pool::Pool::open(options.pool));
    TRY_ASSIGN(const auto tmpl, Template::open(pool, options.name));
    if (application.json) {
        TRY_ASSIGN(Json json, describe_template(tmpl));
        Json phases = Json::object();
        for (const auto& [phase, ms] : report.phases) phases[phase] = ms;
        json["phases_ms"] = phases;
        json["profile_skipped"] = report.profile_skipped;
        print_json(Json{{"schema", 1}, {"template", json}});
        return 0;
    }
    return print_build(tmpl, report);
}

Result<int> list(Application& application, const Options& options) {
    TRY_ASSIGN(const auto pool, pool::Pool::open(options.pool));
    Table table({{"NAME"},
                 {"DATA", Table::Align::right},
                 {"SHARED", Table::Align::right},
                 {"PROFILE"},
                 {"DOMAIN"},
                 {"CREATED"}});
    Json document{{"schema", 1}, {"pool", options.pool}, {"templates", Json::array()}};
    for (const auto& record : pool.templates()) {
        TRY_ASSIGN(const auto tmpl, Template::open(pool, record.name));
        const auto counts = count_pages(tmpl);
        if (application.json) {
            TRY_ASSIGN(Json json, describe_template(tmpl));
            document["templates"].push_back(std::move(json));
            continue;
        }
        const double share = counts.stored == 0 ? 0
                                                : 100.0 * static_cast<double>(counts.shared) /
                                                      static_cast<double>(counts.stored);
        table.add({record.name, format_size(counts.stored * pool::page_size),
                   fmt::format("{:.1f} %", share), tmpl.profile ? "yes" : "no", record.domain,
                   iso_time(record.created)});
    }
    if (application.json)
        print_json(document);
    else
        fmt::print("{}", table.empty() ? "no templates in this pool\n"
                                       : table.render(wants_colour(STDOUT_FILENO)));
    return 0;
}

Result<int> verify(Application& application, const Options& options) {
    TRY_ASSIGN(const auto pool, pool::Pool::open(options.pool));
    TRY_ASSIGN(const auto record, pool.find(options.name));
    application.context.progress->step("verifying " + options.name);
    TRY_ASSIGN(const auto report, pool.verify_template(record));
    application.context.progress->clear();
    if (application.json) {
        Json damages = Json::array();
        for (const auto& damage : report.damages)
            damages.push_back({{"template", damage.template_name},
                               {"what", damage.what},
                               {"offset", damage.offset},
                               {"length", damage.length}});
        print_json(Json{{"schema", 1},
                        {"template", options.name},
                        {"ok", report.damages.empty()},
                        {"bytes_read", report.bytes_read},
                        {"damages", damages}});
        return report.damages.empty() ? 0 : 1;
    }
    for (const auto& damage : report.damages)
        fmt::print("template {}: {} is damaged (bytes {}-{} of the pool)\n", damage.template_name,
                   damage.what, damage.offset, damage.offset + damage.length);
    if (report.damages.empty())
        fmt::print("template {} is whole ({} read)\n", options.name,
                   format_size(report.bytes_read));
    return report.damages.empty() ? 0 : 1;
}

Result<int> diff(Application& application, const Options& options) {
    TRY_ASSIGN(const auto pool, pool::Pool::open(options.pool));
    TRY_ASSIGN(const auto a, Template::open(pool, options.name));
    TRY_ASSIGN(const auto b, Template::open(pool, options.other));
    application.context.progress->step("comparing");
    TRY_ASSIGN(Json json, diff_templates(a, b));
    application.context.progress->clear();
    if (application.json)
        print_json(Json{{"schema", 1}, {"diff", json}});
    else
        print_diff(json);
    return 0;
}

Result<int> remove(Application& application, const Options& options) {
    TRY_ASSIGN(auto pool, pool::Pool::open(options.pool, pool::OpenMode::read_write));
    TRY_ASSIGN(const auto record, pool.find(options.name));
    TRY_ASSIGN(auto writer, pool::Writer::acquire(pool, "template rm " + options.name));
    TRY(writer.remove(options.name));
    // First, so that nobody but instances is found to use its pages.
    TRY(engine::drop_cached(application.context, pool.uuid(), record.id));
    TRY_ASSIGN(const auto collected,
               writer.gc({.pages_in_use = engine::pages_in_use(pool), .no_other_hosts = false}));
    if (application.json) {
        print_json(Json{{"schema", 1},
                        {"removed", options.name},
                        {"freed_pages", collected.freed_pages},
                        {"still_in_use_pages", collected.still_in_use_pages},
                        {"other_hosts_pages", collected.other_hosts_pages}});
    } else if (!application.quiet) {
        const std::string others =
            collected.other_hosts_pages == 0
                ? std::string()
                : fmt::format(
                      "; {} to be reclaimed by `memplate pool gc {} --no-other-hosts` once "
                      "no other host uses it",
                      format_size(collected.other_hosts_pages * pool::page_size), options.pool);
        fmt::print("removed {}; {} freed{}{}\n", options.name,
                   format_size(collected.freed_pages * pool::page_size),
                   collected.still_in_use_pages == 0
                       ? std::string()
                       : fmt::format(", {} still in use by instances (memplate pool gc later)",
                                     format_size(collected.still_in_use_pages * pool::page_size)),
                   others);
    }
    return 0;
}

using Verb = Result<int> (*)(Application&, const Options&);

CLI::App* add_verb(CLI::App& noun, Application& application,
                   const std::shared_ptr<Options>& options, const char* name, const char* help,
                   Verb verb) {
    auto* app = noun.add_subcommand(name, help);
    app->add_option("--pool", options->pool, "Pool file")->required();
    app->callback([&application, options, verb] {
        application.action = [&application, options, verb] { return verb(application, *options); };
    });
    return app;
}

}  // namespace

void add_template_verbs(CLI::App& root, Application& application) {
    auto* noun = root.add_subcommand("template", "Build, look into and remove templates");
    noun->require_subcommand(1);
    auto options = std::make_shared<Options>();
    const auto named = [&](CLI::App* app) {
        app->add_option("name", options->name, "Template")->required();
        return app;
    };

    auto* build_app =
        named(add_verb(*noun, application, options, "build",
                       "Start a function, warm it up, checkpoint and store it", build));
    build_app->add_option("--function", options->function, "Function file (TOML)")->required();
    build_app->add_option("--from-images", options->images,
                          "Take this CRIU image directory instead of running the function");
    build_app->add_flag("--replace", options->replace, "Replace a template of that name");
    build_app->add_flag("--no-profile", options->no_profile,
                        "Do not run the template to learn which pages it writes");
    build_app->footer(
        "Example: memplate template build hello --pool pool.mp --function "
        "hello/function.toml");

    add_verb(*noun, application, options, "list", "List the templates of a pool", list);
    named(add_verb(*noun, application, options, "show", "Pages, hazards and profile of a template",
                   show_template));
    named(add_verb(*noun, application, options, "inspect",
                   "Processes and memory areas, pages by class and owner", inspect_areas));
    named(add_verb(*noun, application, options, "verify", "Re-read every byte of a template",
                   verify));
    named(add_verb(*noun, application, options, "profile", "What was learnt by running a template",
                   show_profile));
    auto* diff_app = named(
        add_verb(*noun, application, options, "diff", "Compare the pages of two templates", diff));
    diff_app->add_option("other", options->other, "Template to compare with")->required();
    named(add_verb(*noun, application, options, "rm", "Remove a template", remove));
}

}  // namespace memplate::cli
