// SPDX-License-Identifier: Apache-2.0
//
// The cache of restore-ready image directories: CACHE/UUID-ID-HASH/ENGINE-PROFILE/ and, beside
// them, verified.json: the state of the pool's medium when every byte of the template was last
// read; pool: the path of the pool, so that images of a pool that is gone can be found and removed.
#include <fcntl.h>
#include <unistd.h>

#include "engine/attached.h"
#include "engine/holder.h"
#include "engine/module_templates.h"
#include "util/fs.h"
#include "util/json.h"
#include "util/lock.h"
#include "util/text.h"

namespace memplate::engine {
namespace {

constexpr const char* trial_suffix = "-trial";

/// With the hash: a copied or restored pool file has the same UUID and may have other templates.
std::string template_directory(const Context& context, const std::string& uuid,
                               const pool::TemplateRecord& record) {
    return fmt::format("{}/{}-{}-{}", context.settings.cache_dir, uuid, record.id, record.hash);
}

Result<> ensure_verified(const Context& context, const pool::Pool& pool, const Template& tmpl,
                         const std::string& directory) {
    // Taken before reading: a change while we read is noticed next time.
    TRY_ASSIGN(const std::string state, pool.state());
    const std::string stamp = directory + "/verified.json";
    if (const auto text = read_file(stamp)) {
        const Json known = Json::parse(*text, nullptr, false);
        if (known.is_object() && known.value("medium", "") == state) return {};
    }
    context.progress->step(fmt::format("verifying template {}", tmpl.record.name));
    TRY_ASSIGN(const auto report, pool.verify_template(tmpl.record));
    context.progress->clear();
    if (!report.damages.empty()) {
        const auto& damage = report.damages.front();
        return fail(fmt::format(
            "template {}: {} at byte {} of the pool is damaged; rebuild it with template build "
            "--replace",
            tmpl.record.name, damage.what, damage.offset));
    }
    const Json stamp_text{{"medium", state}, {"bytes", report.bytes_read}};
    return write_file_atomic(AT_FDCWD, stamp, stamp_text.dump());
}

/// What the images of an engine depend on beside the template.
std::string directory_name(Kind images, const Template& tmpl, Lazy lazy) {
    if (images == Kind::copy) return std::string(name_of(images));
    return fmt::format("{}-{}{}{}", name_of(images), tmpl.record.profile_generation,
                       lazy == Lazy::untouched ? "-lazy" : "",
                       tmpl.record.profile_generation >= trial_generation ? trial_suffix : "");
}

/// Makes the image directory BASE/NAME unless it is there.
Result<> prepare_images(const Context& context, const pool::Pool& pool, const Template& tmpl,
                        Kind images, Lazy lazy, const std::string& base, const std::string& name) {
    const std::string path = base + "/" + name;
    if (::access(path.c_str(), F_OK) == 0) return {};

    // One agent at a time: it removes what a killed one has left half-made.
    TRY_ASSIGN(const LockFile lock, LockFile::acquire(base + "/lock"));
    if (::access(path.c_str(), F_OK) == 0) return {};
    TRY_ASSIGN(const auto entries, list_directory(AT_FDCWD, base));
    for (const std::string& entry : entries) {
        if (entry.starts_with('.')) TRY(remove_tree(base + "/" + entry));
    }
    TRY_ASSIGN(const std::string pool_path, absolute_path(pool.path()));
    TRY(write_file_atomic(AT_FDCWD, base + "/pool", pool_path));

    context.progress->step(fmt::format("preparing images of {}", tmpl.record.name));
    TRY_ASSIGN(auto temporary, TemporaryDirectory::create(base, "." + name));
    TRY_ASSIGN(UniqueFd directory, open_at(AT_FDCWD, temporary.path(), O_RDONLY | O_DIRECTORY));
    WriteOptions options;
    options.lazy = lazy;
    options.volatile_directories = {"/run/memplate/"};
    TRY(write_images(images, tmpl, directory.get(), options));
    context.progress->clear();
    if (::rename(temporary.path().c_str(), path.c_str()) != 0) return fail_errno(errno, path);
    (void)temporary.release();
    return {};
}

/// Lazy pages are for large templates: setting them up costs more than it saves in small ones.
Lazy laziness(const Context& context, const Template& tmpl, const PrepareOptions& options,
              const Module& module) {
    if (!module.has(PSEUDO_MM_FEATURE_LAZY)) return Lazy::never;
    if (options.learning) return Lazy::everything;
    const auto threshold = parse_size(context.settings.lazy_above);
    const bool large = threshold && tmpl.record.data_pages * pool::page_size >= *threshold;
    return large && tmpl.profile ? Lazy::untouched : Lazy::never;
}

Result<ModuleTemplates> module_templates(const Context& context, const Module& module,
                                         const pool::Pool& pool, const Template& tmpl,
                                         const std::string& directory, Keep keep) {
    const auto build = [&]() -> Result<ModuleTemplates> {
        TRY_ASSIGN(const auto plan, read_plan(directory));
        context.progress->step(fmt::format("bringing {} into the module", tmpl.record.name));
        auto built = ModuleTemplates::build(module, pool, tmpl.record, plan);
        context.progress->clear();
        return built;
    };
    const auto seconds = parse_unsigned(context.settings.hold_seconds).value_or(0);
    if (keep == Keep::here || seconds == 0) return build();
    TRY_ASSIGN(const std::string plan,
               read_file(directory + "/" + attach_plan_file, max_attach_plan_bytes));
    Held held{.key = held_key(pool.uuid(), tmpl.record, plan),
              .pool_uuid = pool.uuid(),
              .pool_path = {},
              .template_id = tmpl.record.id,
              .seconds = static_cast<unsigned>(seconds)};
    TRY_ASSIGN(held.pool_path, absolute_path(pool.path()));
    return hold_or_build(context, held, build);
}

}  // namespace

Result<Prepared> prepare(const Context& context, const pool::Pool& pool, const Template& tmpl,
                         Kind kind, const PrepareOptions& options) {
    const std::string base = template_directory(context, pool.uuid(), tmpl.record);
    TRY(make_private_directory(context.settings.cache_dir));
    TRY(make_directories(base, 0700));
    std::optional<Module> module;
    Lazy lazy = Lazy::never;
    if (kind == Kind::attached) {
        TRY_ASSIGN(module, Module::open());
        lazy = laziness(context, tmpl, options, *module);
    }
    TRY(ensure_verified(context, pool, tmpl, base));
    // lazy restores from copy's images.
    const Kind images = kind == Kind::lazy ? Kind::copy : kind;
    const std::string name = directory_name(images, tmpl, lazy);
    TRY(prepare_images(context, pool, tmpl, images, lazy, base, name));
    Prepared prepared{kind, base + "/" + name};
    if (module) {
        TRY_ASSIGN(auto memory, module_templates(context, *module, pool, tmpl, prepared.directory,
                                                 options.keep));
        prepared.memory = std::make_shared<const ModuleTemplates>(std::move(memory));
    }
    return prepared;
}

Result<> drop_stale(const Context& context) {
    TRY(sweep_holders(context));
    const auto names = list_directory(AT_FDCWD, context.settings.cache_dir);
    if (!names) return {};  // no cache yet
    for (const std::string& name : *names) {
        const std::string directory = context.settings.cache_dir + "/" + name;
        const auto pool = read_file(directory + "/pool");
        if (pool && ::access(pool->c_str(), F_OK) != 0 && errno == ENOENT)
            TRY(remove_tree(directory));
    }
    return {};
}

Result<> drop_cached(const Context& context, const std::string& pool_uuid, uint64_t template_id) {
    TRY(end_holders(context, pool_uuid, template_id));
    const auto names = list_directory(AT_FDCWD, context.settings.cache_dir);
    if (!names) return {};  // no cache yet
    const std::string wanted =
        template_id == 0 ? pool_uuid + "-" : fmt::format("{}-{}-", pool_uuid, template_id);
    for (const std::string& name : *names) {
        if (name.starts_with(wanted)) TRY(remove_tree(context.settings.cache_dir + "/" + name));
    }
    return {};
}

Result<> drop_reclaimed(const Context& context, const pool::Pool& pool) {
    const auto names = list_directory(AT_FDCWD, context.settings.cache_dir);
    if (!names) return {};  // no cache yet
    const std::string prefix = pool.uuid() + "-";
    for (const std::string& name : *names) {
        if (!name.starts_with(prefix)) continue;
        const auto id = parse_unsigned(std::string_view(name).substr(
            prefix.size(), name.find('-', prefix.size()) - prefix.size()));
        if (!id || !pool.lists(*id)) TRY(remove_tree(context.settings.cache_dir + "/" + name));
    }
    return {};
}

Result<> drop_trial(const Context& context, const pool::Pool& pool, const Template& tmpl) {
    const std::string base = template_directory(context, pool.uuid(), tmpl.record);
    TRY_ASSIGN(const auto names, list_directory(AT_FDCWD, base));
    for (const std::string& name : names) {
        if (name.ends_with(trial_suffix)) TRY(remove_tree(base + "/" + name));
    }
    return {};
}

}  // namespace memplate::engine
