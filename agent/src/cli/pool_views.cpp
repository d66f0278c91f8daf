// SPDX-License-Identifier: Apache-2.0
#include "cli/pool_views.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "template/template.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

using pool::page_size;
using pool::Pool;
using pool::PoolInfo;
using pool::TemplateRecord;

/// Pages that a pool does not store.
struct Saved {
    uint64_t zero = 0;   ///< they hold zeros
    uint64_t equal = 0;  ///< another page is the same

    [[nodiscard]] Json json() const {
        return {{"zero_pages", zero},
                {"zero_bytes", zero * page_size},
                {"dedup_pages", equal},
                {"dedup_bytes", equal * page_size}};
    }
    [[nodiscard]] std::string text(bool dedup) const {
        std::string line =
            fmt::format("{} ({} pages) of zeros", format_size(zero * page_size), zero);
        if (dedup)
            line += fmt::format(", {} ({} pages) equal to others", format_size(equal * page_size),
                                equal);
        return line;
    }
};

/// Zero pages left out when the live templates were built. What is not understood counts nothing.
uint64_t zero_pages_of(const Pool& pool) {
    uint64_t pages = 0;
    for (const TemplateRecord& record : pool.templates()) {
        const auto tmpl = Template::open(pool, record.name);
        if (!tmpl) continue;
        for (const auto& process : tmpl->manifest.processes()) pages += process.zero_pages();
    }
    return pages;
}

Json template_json(const TemplateRecord& record, bool in_use) {
    return {{"name", record.name},
            {"id", record.id},
            {"domain", record.domain},
            {"hash", record.hash},
            {"created", iso_time(record.created)},
            {"data_bytes", record.data_pages * page_size},
            {"manifest_bytes", record.manifest_bytes},
            {"profile_bytes", record.profile_bytes},
            {"profile_generation", record.profile_generation},
            {"in_use", in_use}};
}

/// Every pool among `paths`; of a directory, those directly in it. A file that is named but is no
/// pool is kept: opening it says why.
Result<std::vector<std::string>> find_pools(const std::vector<std::string>& paths) {
    std::vector<std::string> found;
    for (const std::string& path : paths) {
        struct stat st{};
        if (::stat(path.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) {
            found.push_back(path);
            continue;
        }
        const std::string prefix = path == "." ? "" : path.ends_with('/') ? path : path + "/";
        TRY_ASSIGN(const auto names, list_directory(AT_FDCWD, path + "/."));
        for (const std::string& name : names)
            if (!name.starts_with('.') && Pool::is_pool(prefix + name))
                found.push_back(prefix + name);
    }
    return found;
}

void print_info(const PoolInfo& info, const Saved& saved) {
    fmt::print("pool        {}\n", info.path);
    fmt::print("uuid        {}\n", info.uuid);
    fmt::print("medium      {}, format version {}, generation {}\n", info.medium,
               info.format_version, info.generation);
    fmt::print("size        {}, of it {} for templates\n", format_size(info.size_bytes),
               format_size(info.total_pages * page_size));
    fmt::print("used        {}", format_size(info.used_pages * page_size));
    if (info.retired_pages > 0)
        fmt::print(", of it {} removed and waiting for `memplate pool gc`",
                   format_size(info.retired_pages * page_size));
    fmt::print("\noccupied    {} of storage\n", format_size(info.allocated_bytes));
    fmt::print("saved       {}\n", saved.text(info.dedup));
    if (!info.lease_holder.empty()) fmt::print("writer      {}\n", info.lease_holder);
    for (const std::string& warning : info.warnings) fmt::print("warning     {}\n", warning);
}

}  // namespace

Json pool_info_json(const PoolInfo& info) {
    return {{"path", info.path},
            {"uuid", info.uuid},
            {"medium", info.medium},
            {"dedup", info.dedup},
            {"across_hosts", info.across_hosts},
            {"format_version", info.format_version},
            {"generation", info.generation},
            {"size_bytes", info.size_bytes},
            {"data_bytes", info.total_pages * page_size},
            {"used_bytes", info.used_pages * page_size},
            {"retired_bytes", info.retired_pages * page_size},
            {"allocated_bytes", info.allocated_bytes},
            {"lease_holder", info.lease_holder.empty() ? Json() : Json(info.lease_holder)},
            {"warnings", info.warnings}};
}

Json pool_document(const Json& more) {
    Json out{{"schema", 1}};
    out.update(more);
    return out;
}

Result<int> list_pools(const Application& application, const PoolOptions& options) {
    using Align = Table::Align;
    Table table({{"POOL"},
                 {"SIZE", Align::right},
                 {"USED", Align::right},
                 {"TEMPLATES", Align::right},
                 {"STATE"}});
    Json pools = Json::array();
    bool all_whole = true;
    TRY_ASSIGN(const auto paths,
               find_pools(options.paths.empty() ? std::vector<std::string>{"."} : options.paths));
    for (const std::string& path : paths) {
        const auto pool = Pool::open(path);
        const auto info = pool ? pool->info() : std::unexpected(pool.error());
        if (!info) {
            all_whole = false;
            pools.push_back({{"path", path}, {"error", info.error().message}});
            // The path is in the first column already.
            std::string_view why = info.error().message;
            if (why.starts_with(path + ": ")) why.remove_prefix(path.size() + 2);
            table.add({path, "-", "-", "-", std::string(why)});
            continue;
        }
        Json entry = pool_info_json(*info);
        entry["templates"] = pool->templates().size();
        pools.push_back(std::move(entry));
        table.add({path, format_size(info->size_bytes), format_size(info->used_pages * page_size),
                   std::to_string(pool->templates().size()),
                   !info->warnings.empty()       ? "warning"
                   : !info->lease_holder.empty() ? "being written"
                                                 : "ok"});
    }
    if (application.json) {
        print_json(pool_document({{"pools", pools}}));
    } else if (table.empty()) {
        fmt::print("no pools here; `memplate pool create PATH --size 4G` makes one\n");
    } else {
        fmt::print("{}", table.render(wants_colour(STDOUT_FILENO)));
    }
    return all_whole ? 0 : 1;
}

Result<int> show_pool(const Application& application, const PoolOptions& options) {
    TRY_ASSIGN(const Pool pool, Pool::open(options.path));
    TRY_ASSIGN(const PoolInfo info, pool.info());
    const Saved saved{zero_pages_of(pool), info.dedup_saved_pages};
    using Align = Table::Align;
    Table table({{"TEMPLATE"},
                 {"DATA", Align::right},
                 {"PROFILE", Align::right},
                 {"DOMAIN"},
                 {"CREATED"},
                 {"IN USE"}});
    Json templates = Json::array();
    for (const TemplateRecord& record : pool.templates()) {
        TRY_ASSIGN(const bool in_use, pool.in_use(record));
        templates.push_back(template_json(record, in_use));
        table.add({record.name, format_size(record.data_pages * page_size),
                   record.profile_bytes > 0 ? format_size(record.profile_bytes) : "-",
                   record.domain.empty() ? "-" : record.domain, iso_time(record.created),
                   in_use ? "yes" : "no"});
    }
    if (application.json) {
        Json out = pool_document(pool_info_json(info));
        out["saved"] = saved.json();
        out["templates"] = std::move(templates);
        print_json(out);
        return 0;
    }
    print_info(info, saved);
    if (table.empty()) {
        fmt::print("\nno templates; `memplate template build` makes one\n");
    } else {
        fmt::print("\n{}", table.render(wants_colour(STDOUT_FILENO)));
    }
    return 0;
}

Result<int> verify_pool(const Application& application, const PoolOptions& options) {
    const Context& context = application.context;
    TRY_ASSIGN(const Pool pool, Pool::open(options.path));
    TRY_ASSIGN(const PoolInfo info, pool.info());
    context.progress->step("verify " + options.path, info.used_pages * page_size);
    TRY_ASSIGN(const auto report, pool.verify([&](uint64_t bytes) -> Result<> {
        context.progress->advance(bytes);
        if (context.stop.stop_requested()) return interrupted();
        return {};
    }));
    context.progress->clear();
    if (application.json) {
        Json damages = Json::array();
        for (const auto& damage : report.damages)
            damages.push_back(
                {{"template", damage.template_name.empty() ? Json() : Json(damage.template_name)},
                 {"what", damage.what},
                 {"offset", damage.offset},
                 {"length", damage.length}});
        print_json(pool_document({{"path", options.path},
                                  {"whole", report.damages.empty()},
                                  {"templates", report.templates},
                                  {"bytes_read", report.bytes_read},
                                  {"damages", damages}}));
        return report.damages.empty() ? 0 : 1;
    }
    for (const auto& damage : report.damages) {
        const std::string where =
            damage.template_name.empty() ? "" : "template " + damage.template_name + ": ";
        fmt::print("{}: {}{}: damaged, bytes {} to {}\n", options.path, where, damage.what,
                   damage.offset, damage.offset + damage.length - 1);
    }
    if (report.damages.empty())
        fmt::print("{}: whole: {} templates, {} read\n", options.path, report.templates,
                   format_size(report.bytes_read));
    return report.damages.empty() ? 0 : 1;
}

}  // namespace memplate::cli
