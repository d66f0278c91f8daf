// SPDX-License-Identifier: Apache-2.0
//
// memplate pool create, list, show, verify, gc, grow, rm.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/application.h"
#include "pool/pool.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/table.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

using pool::OpenMode;
using pool::page_size;
using pool::Pool;
using pool::PoolInfo;
using pool::TemplateRecord;
using pool::Writer;

struct PoolOptions {
    std::string path;
    std::string size;
    std::vector<std::string> paths;
};

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

Json info_json(const PoolInfo& info) {
    return {{"path", info.path},
            {"uuid", info.uuid},
            {"medium", info.medium},
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

/// {"schema": 1, …the members of `more`}
Json document(const Json& more) {
    Json out{{"schema", 1}};
    out.update(more);
    return out;
}

Result<int> create(const Application& application, const PoolOptions& options) {
    TRY_ASSIGN(const uint64_t size, parse_size(options.size));
    TRY_ASSIGN(const Pool pool, Pool::create(options.path, size));
    TRY_ASSIGN(const PoolInfo info, pool.info());
    if (application.json) {
        print_json(document(info_json(info)));
    } else {
        fmt::print("{}: {} pool, {} for templates\n", info.path, format_size(info.size_bytes),
                   format_size(info.total_pages * page_size));
    }
    return 0;
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

Result<int> list(const Application& application, const PoolOptions& options) {
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
        Json entry = info_json(*info);
        entry["templates"] = pool->templates().size();
        pools.push_back(std::move(entry));
        table.add({path, format_size(info->size_bytes), format_size(info->used_pages * page_size),
                   std::to_string(pool->templates().size()),
                   !info->warnings.empty()       ? "warning"
                   : !info->lease_holder.empty() ? "being written"
                                                 : "ok"});
    }
    if (application.json) {
        print_json(document({{"pools", pools}}));
    } else if (table.empty()) {
        fmt::print("no pools here; `memplate pool create PATH --size 4G` makes one\n");
    } else {
        fmt::print("{}", table.render(wants_colour(STDOUT_FILENO)));
    }
    return all_whole ? 0 : 1;
}

void print_info(const PoolInfo& info) {
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
    if (!info.lease_holder.empty()) fmt::print("writer      {}\n", info.lease_holder);
    for (const std::string& warning : info.warnings) fmt::print("warning     {}\n", warning);
}

Result<int> show(const Application& application, const PoolOptions& options) {
    TRY_ASSIGN(const Pool pool, Pool::open(options.path));
    TRY_ASSIGN(const PoolInfo info, pool.info());
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
        Json out = document(info_json(info));
        out["templates"] = std::move(templates);
        print_json(out);
        return 0;
    }
    print_info(info);
    if (table.empty()) {
        fmt::print("\nno templates; `memplate template build` makes one\n");
    } else {
        fmt::print("\n{}", table.render(wants_colour(STDOUT_FILENO)));
    }
    return 0;
}

Result<int> verify(const Application& application, const PoolOptions& options) {
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
        print_json(document({{"path", options.path},
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

Result<int> gc(const Application& application, const PoolOptions& options) {
    TRY_ASSIGN(Pool pool, Pool::open(options.path, OpenMode::read_write));
    TRY_ASSIGN(Writer writer, Writer::acquire(pool, "memplate pool gc"));
    TRY_ASSIGN(const auto report, writer.gc());
    if (application.json) {
        print_json(document({{"path", options.path},
                             {"freed_bytes", report.freed_pages * page_size},
                             {"still_in_use_bytes", report.still_in_use_pages * page_size}}));
        return 0;
    }
    fmt::print("{}: {} freed", options.path, format_size(report.freed_pages * page_size));
    if (report.still_in_use_pages > 0)
        fmt::print(", {} of removed templates still in use by instances",
                   format_size(report.still_in_use_pages * page_size));
    fmt::print("\n");
    return 0;
}

Result<int> grow(const Application& application, const PoolOptions& options) {
    TRY_ASSIGN(const uint64_t size, parse_size(options.size));
    TRY_ASSIGN(Pool pool, Pool::open(options.path, OpenMode::read_write));
    {
        TRY_ASSIGN(Writer writer, Writer::acquire(pool, "memplate pool grow"));
        TRY(writer.grow(size));
    }
    TRY_ASSIGN(const PoolInfo info, pool.info());
    if (application.json) {
        print_json(document(info_json(info)));
    } else {
        fmt::print("{}: now {}, {} of it free\n", info.path, format_size(info.size_bytes),
                   format_size((info.total_pages - info.used_pages) * page_size));
    }
    return 0;
}

Result<int> remove(const Application& application, const PoolOptions& options) {
    TRY(Pool::remove_file(options.path));
    if (application.json) {
        print_json(document({{"path", options.path}, {"removed", true}}));
    } else {
        fmt::print("{}: removed\n", options.path);
    }
    return 0;
}

using Verb = Result<int> (*)(const Application&, const PoolOptions&);

/// One verb below `pool`; its options are kept alive by its callback.
class VerbBuilder {
  public:
    VerbBuilder(CLI::App& noun, Application& application, const std::string& name, Verb verb,
                const std::string& description, const std::string& example)
        : options_(std::make_shared<PoolOptions>()), app_(noun.add_subcommand(name, description)) {
        app_->footer("Example:\n  " + example);
        app_->callback([&application, verb, options = options_] {
            application.action = [&application, verb, options] {
                return verb(application, *options);
            };
        });
    }
    VerbBuilder& path(const std::string& description) {
        app_->add_option("path", options_->path, description)->required()->type_name("PATH");
        return *this;
    }
    VerbBuilder& paths(const std::string& description) {
        app_->add_option("paths", options_->paths, description)->type_name("PATH");
        return *this;
    }
    VerbBuilder& size(const std::string& description) {
        app_->add_option("--size", options_->size, description)->required()->type_name("SIZE");
        return *this;
    }

  private:
    std::shared_ptr<PoolOptions> options_;
    CLI::App* app_;
};

}  // namespace

void add_pool_verbs(CLI::App& root, Application& application) {
    auto* noun = root.add_subcommand("pool", "Create, inspect and maintain pools of templates");
    noun->require_subcommand(1);
    const auto verb = [&](const std::string& name, Verb run, const std::string& description,
                          const std::string& example) {
        return VerbBuilder(*noun, application, name, run, description, example);
    };
    verb("create", create, "Create an empty pool file",
         "memplate pool create /dev/shm/pool --size 4G")
        .path("File to create; on a tmpfs (/dev/shm) restores are fastest")
        .size("Limit of the pool, e.g. 512M or 4G; storage is taken as templates are added");
    verb("list", list, "List pools", "memplate pool list /dev/shm /var/lib/memplate")
        .paths("Pool files, or directories to look into (default: the current one)");
    verb("show", show, "Show a pool and its templates", "memplate pool show /dev/shm/pool")
        .path("Pool file");
    verb("verify", verify, "Read everything back and check it; exit code 1 if anything is damaged",
         "memplate pool verify /dev/shm/pool")
        .path("Pool file");
    verb("gc", gc, "Give back the storage of removed templates that no instance uses any more",
         "memplate pool gc /dev/shm/pool")
        .path("Pool file");
    verb("grow", grow, "Raise the size limit", "memplate pool grow /dev/shm/pool --size 8G")
        .path("Pool file")
        .size("New limit");
    verb("rm", remove, "Remove a pool with all its templates; refused while it is in use",
         "memplate pool rm /dev/shm/pool")
        .path("Pool file");
    noun->footer("Example:\n  memplate pool create /dev/shm/pool --size 4G");
}

}  // namespace memplate::cli
