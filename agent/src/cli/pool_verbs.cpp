// SPDX-License-Identifier: Apache-2.0
//
// memplate pool create, list, show, verify, gc, grow, break-lease, rm. What list, show and verify
// print is in pool_views.cpp.
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/pool_views.h"
#include "engine/engine.h"
#include "engine/pages_in_use.h"
#include "pool/reference.h"
#include "util/text.h"

namespace memplate::cli {
namespace {

using pool::OpenMode;
using pool::page_size;
using pool::Pool;
using pool::PoolInfo;
using pool::Writer;

/// Which pages of a device processes use, whatever it holds.
pool::PagesInUse pages_of_device(const std::string& path) {
    const auto medium = pool::open_medium(path, OpenMode::read_only);
    return medium ? engine::pages_in_use(*medium, 0) : pool::PagesInUse();
}

/// Which pages of the pool at `path` processes use; of what cannot be opened as a pool, of all of
/// it.
Result<pool::PagesInUse> forget_pool(const Context& context, const std::string& path) {
    const auto pool = Pool::open(path);
    if (!pool) return pages_of_device(path);
    // First, so that nobody but instances is found to use its pages.
    TRY(engine::drop_cached(context, pool->uuid(), 0));
    return engine::pages_in_use(*pool);
}

Result<Pool> create_pool(const Context& context, const PoolOptions& options) {
    pool::CreateOptions create;
    create.dedup = options.dedup;
    create.force = options.force;
    if (!options.device.empty()) {
        if (!options.size.empty())
            return fail(ErrorKind::usage, "--size: a pool on a device has the size of the device");
        create.no_other_hosts = options.no_other_hosts;
        // Also of a device that looks blank: another host may have wiped it.
        create.pages_in_use = pages_of_device(options.device);
        if (options.force) {
            TRY_ASSIGN(create.pages_in_use, forget_pool(context, options.device));
        }
        return Pool::create_on_device(options.device, options.path, create);
    }
    if (options.force)
        return fail(ErrorKind::usage,
                    "--force: is for devices; remove a pool file first with "
                    "`memplate pool rm`");
    if (options.path.empty() || options.size.empty())
        return fail(ErrorKind::usage, "pool create needs PATH and --size, or --dax DEVICE");
    TRY_ASSIGN(const uint64_t size, parse_size(options.size));
    return Pool::create(options.path, size, create);
}

Result<int> create(const Application& application, const PoolOptions& options) {
    TRY_ASSIGN(const Pool pool, create_pool(application.context, options));
    TRY_ASSIGN(const PoolInfo info, pool.info());
    if (application.json) {
        print_json(pool_document(pool_info_json(info)));
    } else {
        fmt::print("{}: {} pool, {} for templates\n", info.path, format_size(info.size_bytes),
                   format_size(info.total_pages * page_size));
    }
    return 0;
}

Result<int> gc(const Application& application, const PoolOptions& options) {
    TRY_ASSIGN(Pool pool, Pool::open(options.path, OpenMode::read_write));
    TRY_ASSIGN(Writer writer, Writer::acquire(pool, "memplate pool gc"));
    TRY_ASSIGN(const auto report, writer.gc({.pages_in_use = engine::pages_in_use(pool),
                                             .no_other_hosts = options.no_other_hosts}));
    TRY(engine::drop_reclaimed(application.context, pool));
    if (report.other_hosts_pages > 0)
        return fail(ErrorKind::usage,
                    fmt::format("{}: {} of removed templates may be in use on other hosts, which "
                                "cannot be seen from here; when none uses them, `memplate pool gc "
                                "{} --no-other-hosts` reclaims them",
                                options.path, format_size(report.other_hosts_pages * page_size),
                                options.path));
    if (application.json) {
        print_json(pool_document({{"path", options.path},
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

Result<int> break_lease(const Application& application, const PoolOptions& options) {
    TRY_ASSIGN(Pool pool, Pool::open(options.path, OpenMode::read_write));
    {
        // Being the writer for a moment also repairs what the other host left half done.
        TRY_ASSIGN(const Writer writer,
                   Writer::acquire(pool, "memplate pool break-lease", {options.host}));
    }
    if (application.json) {
        print_json(pool_document({{"path", options.path}, {"lease_holder", nullptr}}));
    } else {
        fmt::print("{}: free to be written\n", options.path);
    }
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
        print_json(pool_document(pool_info_json(info)));
    } else {
        fmt::print("{}: now {}, {} of it free\n", info.path, format_size(info.size_bytes),
                   format_size((info.total_pages - info.used_pages) * page_size));
    }
    return 0;
}

Result<int> remove(const Application& application, const PoolOptions& options) {
    TRY_ASSIGN(const auto pages_in_use, forget_pool(application.context, options.path));
    TRY(Pool::remove(options.path, {pages_in_use, options.no_other_hosts}));
    if (application.json) {
        print_json(pool_document({{"path", options.path}, {"removed", true}}));
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
    VerbBuilder& optional_path(const std::string& description) {
        app_->add_option("path", options_->path, description)->type_name("PATH");
        return *this;
    }
    VerbBuilder& paths(const std::string& description) {
        app_->add_option("paths", options_->paths, description)->type_name("PATH");
        return *this;
    }
    VerbBuilder& size(const std::string& description) {
        app_->add_option("--size", options_->size, description)->type_name("SIZE");
        return *this;
    }
    VerbBuilder& text(const std::string& name, std::string PoolOptions::* value,
                      const std::string& type, const std::string& description) {
        app_->add_option(name, (*options_).*value, description)->type_name(type);
        return *this;
    }
    VerbBuilder& flag(const std::string& name, bool PoolOptions::* value,
                      const std::string& description) {
        app_->add_flag(name, (*options_).*value, description);
        return *this;
    }
    VerbBuilder& require(const std::string& name) {
        app_->get_option(name)->required();
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
    verb("create", create, "Create an empty pool, in a file or on a device",
         "memplate pool create /dev/shm/pool --size 4G\n"
         "  memplate pool create --dax /dev/dax0.0 /var/lib/memplate/shared")
        .optional_path(
            "File to create; on a tmpfs (/dev/shm) restores are fastest. With --dax: a "
            "small file that stands for the pool, if it is to have a name")
        .size("Limit of the pool, e.g. 512M or 4G; storage is taken as templates are added")
        .text("--dax", &PoolOptions::device, "DEVICE",
              "Put the pool on this device DAX device (CXL or persistent memory), all of it")
        .flag("--dedup", &PoolOptions::dedup,
              "Store equal pages of a domain once; for engines attached, copy and lazy (mapped "
              "needs pages in one piece). Always on with --dax")
        .flag("--force", &PoolOptions::force, "With --dax: destroy what the device holds")
        .flag("--no-other-hosts", &PoolOptions::no_other_hosts,
              "With --force: no other host uses the pool there (only you can know)");
    verb("list", list_pools, "List pools", "memplate pool list /dev/shm /var/lib/memplate")
        .paths("Pools, or directories to look into (default: the current one)");
    verb("show", show_pool, "Show a pool and its templates", "memplate pool show /dev/shm/pool")
        .path("Pool");
    verb("verify", verify_pool,
         "Read everything back and check it; exit code 1 if anything is damaged",
         "memplate pool verify /dev/shm/pool")
        .path("Pool");
    verb("gc", gc, "Give back the storage of removed templates that no instance uses any more",
         "memplate pool gc /dev/shm/pool")
        .path("Pool")
        .flag("--no-other-hosts", &PoolOptions::no_other_hosts,
              "Pools on devices: no other host uses removed templates (only you can know)");
    verb("grow", grow, "Raise the size limit", "memplate pool grow /dev/shm/pool --size 8G")
        .path("Pool file")
        .size("New limit")
        .require("--size");
    verb("break-lease", break_lease,
         "Take over the right to write from a host that went down while it wrote",
         "memplate pool break-lease /dev/dax0.0 --host node7")
        .path("Pool")
        .text("--host", &PoolOptions::host, "NAME",
              "The host, as the refusal names it: it does not write any more")
        .require("--host");
    verb("rm", remove, "Remove a pool with all its templates; refused while it is in use",
         "memplate pool rm /dev/shm/pool")
        .path("Pool")
        .flag("--no-other-hosts", &PoolOptions::no_other_hosts,
              "Pools on devices: no other host uses it (only you can know)");
    noun->footer("Example:\n  memplate pool create /dev/shm/pool --size 4G");
}

}  // namespace memplate::cli
