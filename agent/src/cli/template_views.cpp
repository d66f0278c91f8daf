// SPDX-License-Identifier: Apache-2.0
//
// Templates in detail, for people.
#include "cli/template_views.h"

#include <fmt/format.h>
#include <unistd.h>

#include <map>

#include "template/inspect.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

std::string pages_text(uint64_t pages) {
    return format_size(pages * pool::page_size);
}

std::string percent(uint64_t part, uint64_t whole) {
    return whole == 0 ? "-"
                      : fmt::format("{:.1f} %",
                                    100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

void print_classes(const PageCounts& counts) {
    const uint64_t all = counts.stored + counts.zero;
    Table table(
        {{"PAGES"}, {"SIZE", Table::Align::right}, {"SHARE", Table::Align::right}, {"MEANING"}});
    table.add({"shared", pages_text(counts.shared), percent(counts.shared, all),
               "mapped from the pool by every instance"});
    table.add({"pre-copied", pages_text(counts.precopied), percent(counts.precopied, all),
               "seen written: copied before the instance runs"});
    table.add({"copied", pages_text(counts.copied), percent(counts.copied, all),
               "cannot or need not be shared"});
    table.add({"zero", pages_text(counts.zero), percent(counts.zero, all), "not stored"});
    fmt::print("{}", table.render(wants_colour(STDOUT_FILENO)));
}

void print_gpu(const Template& tmpl) {
    for (const auto& process : tmpl.manifest.gpu().processes())
        for (const auto& need : process.needs())
            fmt::print("process {} had {} on {}; it goes back there with driver {}\n",
                       process.pid(), format_size(need.bytes()), need.uuid(),
                       tmpl.manifest.gpu().driver());
}

void print_hazards(const Template& tmpl) {
    if (tmpl.manifest.hazards().empty()) {
        fmt::print("hazards: none found\n");
        return;
    }
    // A busy allocator gives back hundreds of areas: one line for each kind of evidence.
    std::map<std::pair<uint32_t, std::string>, unsigned> areas;
    for (const auto& hazard : tmpl.manifest.hazards())
        areas[{hazard.pid(), hazard.evidence()}] += hazard.end() != 0 ? 1 : 0;
    for (const auto& [what, count] : areas) {
        const std::string where = what.first == 0 ? "" : fmt::format("process {}: ", what.first);
        const std::string times =
            count == 0 ? "" : fmt::format(" ({} area{})", count, count == 1 ? "" : "s");
        fmt::print("hazard: {}{}{}\n", where, what.second, times);
    }
    fmt::print("{}\n",
               tmpl.blocking_hazard() != nullptr
                   ? "engine mapped is not safe here; attached (module pseudo_mm) and copy are"
                   : "engine mapped copies the areas named above; attached has no hazards");
}

double number_at(const Json& json, const char* key, const char* inner) {
    return json.at(key).at(inner).get<double>();
}

void print_profile(const Json& profile) {
    const auto row = [&](const char* name, const char* key) {
        return fmt::format("{}: {} without the profile, {} with it", name,
                           format_milliseconds(number_at(profile, key, "before")),
                           format_milliseconds(number_at(profile, key, "after")));
    };
    fmt::print("learnt from {} requests: {} written, {} only read\n",
               profile.at("requests").get<unsigned>(),
               pages_text(profile.at("written_pages").get<uint64_t>()),
               pages_text(profile.at("read_pages").get<uint64_t>()));
    fmt::print("{}\n{}\n", row("restore", "restore_ms"),
               row("restore and first answer", "first_answer_ms"));
}

}  // namespace

Result<int> show_template(Application& application, const TemplateOptions& options) {
    TRY_ASSIGN(const auto pool, pool::Pool::open(options.pool));
    TRY_ASSIGN(const auto tmpl, Template::open(pool, options.name));
    TRY_ASSIGN(const Json json, describe_template(tmpl));
    if (application.json) {
        print_json(Json{{"schema", 1}, {"template", json}});
        return 0;
    }
    fmt::print("template {}  id {}  hash {}\n", tmpl.record.name, tmpl.record.id, tmpl.record.hash);
    fmt::print("built {} on Linux {} with criu {}; domain {}\n", json["created"].get<std::string>(),
               tmpl.manifest.kernel(), tmpl.manifest.criu_version(), tmpl.record.domain);
    fmt::print("{} process{}, {} images ({})\n\n", tmpl.manifest.processes_size(),
               tmpl.manifest.processes_size() == 1 ? "" : "es", tmpl.manifest.images_size(),
               format_size(json["image_bytes"].get<uint64_t>()));
    print_classes(count_pages(tmpl));
    fmt::print("\n");
    print_gpu(tmpl);
    print_hazards(tmpl);
    if (tmpl.profile) {
        fmt::print("\n");
        print_profile(json["profile"]);
    }
    return 0;
}

Result<int> inspect_areas(Application& application, const TemplateOptions& options) {
    TRY_ASSIGN(const auto pool, pool::Pool::open(options.pool));
    TRY_ASSIGN(const auto tmpl, Template::open(pool, options.name));
    TRY_ASSIGN(const Json json, inspect_template(tmpl));
    if (application.json) {
        print_json(Json{{"schema", 1}, {"template", json}});
        return 0;
    }
    for (const auto& process : json["processes"]) {
        fmt::print("process {} ({}), {} thread{}\n", process["pid"].get<unsigned>(),
                   process.value("command", "?"), process["threads"].get<int>(),
                   process["threads"].get<int>() == 1 ? "" : "s");
        Table table({{"ADDRESS"},
                     {"SIZE", Table::Align::right},
                     {"PERM"},
                     {"SHARED", Table::Align::right},
                     {"PRE", Table::Align::right},
                     {"COPIED", Table::Align::right},
                     {"NAME"}});
        for (const auto& area : process["areas"]) {
            const auto& delivered = area["delivered"];
            std::string name = area["name"];
            if (const std::string why = area["not_shared_because"]; !why.empty())
                name += (name.empty() ? "(" : " (") + why + ")";
            table.add({area["start"], pages_text(area["pages"].get<uint64_t>()),
                       area["permissions"], std::to_string(delivered["shared"].get<uint64_t>()),
                       std::to_string(delivered["precopied"].get<uint64_t>()),
                       std::to_string(delivered["copied"].get<uint64_t>()), name});
        }
        fmt::print("{}\n", table.render(wants_colour(STDOUT_FILENO)));
    }
    for (const auto& [owner, pages] : json["pages_by_owner"].items())
        fmt::print("{:<12} {:>10}\n", owner, pages_text(pages.get<uint64_t>()));
    return 0;
}

Result<int> show_profile(Application& application, const TemplateOptions& options) {
    TRY_ASSIGN(const auto pool, pool::Pool::open(options.pool));
    TRY_ASSIGN(const auto tmpl, Template::open(pool, options.name));
    const Json profile = describe_profile(tmpl);
    if (application.json) {
        print_json(Json{{"schema", 1}, {"template", options.name}, {"profile", profile}});
        return 0;
    }
    if (profile.is_null())
        fmt::print("template {} has no profile\n", options.name);
    else
        print_profile(profile);
    return 0;
}

int print_build(const Template& tmpl, const instance::BuildReport& report) {
    fmt::print("built template {} ({} of data)\n", tmpl.record.name,
               pages_text(report.pages.stored));
    std::string phases;
    for (const auto& [phase, ms] : report.phases)
        phases +=
            fmt::format("{}{} {}", phases.empty() ? "" : ", ", phase, format_milliseconds(ms));
    fmt::print("{}\n\n", phases);
    print_classes(report.pages);
    fmt::print("\n");
    print_gpu(tmpl);
    print_hazards(tmpl);
    if (!report.profile_skipped.empty())
        fmt::print("no profile: {}\n", report.profile_skipped);
    else
        print_profile(describe_profile(tmpl));
    return 0;
}

void print_diff(const Json& diff) {
    Table table({{"OWNER"},
                 {"SAME", Table::Align::right},
                 {"CHANGED", Table::Align::right},
                 {"ONLY " + diff["a"].get<std::string>(), Table::Align::right},
                 {"ONLY " + diff["b"].get<std::string>(), Table::Align::right}});
    const auto add = [&](const std::string& name, const Json& counts) {
        table.add({name, pages_text(counts["same"].get<uint64_t>()),
                   pages_text(counts["changed"].get<uint64_t>()),
                   pages_text(counts["only_a"].get<uint64_t>()),
                   pages_text(counts["only_b"].get<uint64_t>())});
    };
    for (const auto& [owner, counts] : diff["by_owner"].items()) add(owner, counts);
    add("all", diff["pages"]);
    fmt::print("{}", table.render(wants_colour(STDOUT_FILENO)));
}

}  // namespace memplate::cli
