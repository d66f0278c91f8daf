// SPDX-License-Identifier: Apache-2.0
//
// The cache of restore-ready image directories: CACHE/UUID-ID/ENGINE-PROFILE/ and, beside them,
// verified.json: the state of the pool's medium when every byte of the template was last read; pool:
// the path of the pool, so that images of a pool that is gone can be found and removed.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/engine.h"
#include "util/fs.h"
#include "util/json.h"
#include "util/lock.h"

namespace memplate::engine {
namespace {

std::string template_directory(const Context& context, const std::string& uuid, uint64_t id) {
    return fmt::format("{}/{}-{}", context.settings.cache_dir, uuid, id);
}

/// Changes whenever anything is written to the medium.
Result<std::string> medium_state(int fd) {
    struct stat st{};
    if (::fstat(fd, &st) != 0) return fail_errno(errno, "pool: fstat");
    return fmt::format("{}:{}:{}:{}.{:09}:{}.{:09}", st.st_dev, st.st_ino, st.st_size,
                       st.st_mtim.tv_sec, st.st_mtim.tv_nsec, st.st_ctim.tv_sec,
                       st.st_ctim.tv_nsec);
}

Result<> ensure_verified(const Context& context, const pool::Pool& pool, const Template& tmpl,
                         const std::string& directory) {
    // Taken before reading: a change while we read is noticed next time.
    TRY_ASSIGN(const std::string state, medium_state(pool.fd()));
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

}  // namespace

Result<Prepared> prepare(const Context& context, const pool::Pool& pool, const Template& tmpl,
                         Kind kind) {
    TRY_ASSIGN(const auto info, pool.info());
    const std::string base = template_directory(context, info.uuid, tmpl.record.id);
    TRY(make_directories(base, 0700));
    TRY(ensure_verified(context, pool, tmpl, base));

    // lazy restores from copy's images; only mapped depends on the profile.
    const Kind images = kind == Kind::lazy ? Kind::copy : kind;
    const std::string name = kind == Kind::mapped
                                 ? fmt::format("mapped-{}", tmpl.record.profile_generation)
                                 : std::string(name_of(images));
    Prepared prepared{kind, base + "/" + name};
    if (::access(prepared.directory.c_str(), F_OK) == 0) return prepared;

    // One agent at a time: it removes what a killed one has left half-made.
    TRY_ASSIGN(const LockFile lock, LockFile::acquire(base + "/lock"));
    if (::access(prepared.directory.c_str(), F_OK) == 0) return prepared;
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
    options.volatile_directories = {"/run/memplate/"};
    TRY(write_images(images, tmpl, directory.get(), options));
    context.progress->clear();
    if (::rename(temporary.path().c_str(), prepared.directory.c_str()) != 0)
        return fail_errno(errno, prepared.directory);
    (void)temporary.release();
    return prepared;
}

Result<> drop_stale(const Context& context) {
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
    const auto names = list_directory(AT_FDCWD, context.settings.cache_dir);
    if (!names) return {};  // no cache yet
    const std::string wanted =
        template_id == 0 ? pool_uuid + "-" : fmt::format("{}-{}", pool_uuid, template_id);
    for (const std::string& name : *names) {
        if (template_id == 0 ? name.starts_with(wanted) : name == wanted)
            TRY(remove_tree(context.settings.cache_dir + "/" + name));
    }
    return {};
}

}  // namespace memplate::engine
