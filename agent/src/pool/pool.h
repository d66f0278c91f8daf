// SPDX-License-Identifier: Apache-2.0
//
// A pool: an array of 4 KiB pages on one medium, with a catalogue of the templates stored in it.
// The on-medium format is described in pool/FORMAT.md. Knows nothing of processes or images: a
// template is a name, two blobs (manifest, profile) and extents of pages.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "util/fd.h"

namespace memplate::pool {

inline constexpr uint64_t page_size = 4096;

class Medium;
class WriterState;
struct PoolState;

/// `count` pages from page number `first` of the pool.
struct PageExtent {
    uint64_t first = 0;
    uint64_t count = 0;
    bool operator==(const PageExtent&) const = default;
};

/// A catalogue entry.
struct TemplateRecord {
    uint64_t id = 0;      ///< never reused within a pool
    std::string name;     ///< unique among the live templates of a pool
    std::string domain;   ///< sharing label; pages are never shared across domains (DESIGN.md D6)
    std::string hash;     ///< XXH3-128 of manifest and page contents, 32 hexadecimal digits
    int64_t created = 0;  ///< seconds since the epoch
    uint64_t data_pages = 0;  ///< pages reserved for this template, holes included
    uint64_t manifest_bytes = 0;
    uint64_t profile_bytes = 0;       ///< 0: not profiled yet
    uint64_t profile_generation = 0;  ///< catalogue generation that stored the profile
};

struct PoolInfo {
    std::string path;
    std::string uuid;
    std::string medium;         ///< "file" or "dax"
    bool dedup = false;         ///< templates of a domain share pages of equal contents
    bool across_hosts = false;  ///< other hosts may use the medium as well
    uint32_t format_version = 0;
    uint64_t generation = 0;
    uint64_t size_bytes = 0;         ///< limit of the pool
    uint64_t total_pages = 0;        ///< pages in the data area
    uint64_t used_pages = 0;         ///< referenced by the catalogue in use, retired ones included
    uint64_t retired_pages = 0;      ///< of removed templates only, waiting for gc
    uint64_t dedup_saved_pages = 0;  ///< equal pages that are stored once, repetitions not counted
    uint64_t allocated_bytes = 0;    ///< blocks the file really occupies
    std::string lease_holder;        ///< "pid 17 (memplate template build) since …", empty if none
    std::vector<std::string> warnings;  ///< e.g. one damaged superblock, previous catalogue in use
};

/// One place where the medium does not hold what was written.
struct Damage {
    std::string template_name;  ///< empty: pool metadata
    std::string what;     ///< "superblock 1", "catalogue slot 0", "manifest", "extent 12", ...
    uint64_t offset = 0;  ///< byte offset in the pool of the damaged area
    uint64_t length = 0;
};

struct VerifyReport {
    uint64_t bytes_read = 0;
    uint64_t templates = 0;
    std::vector<Damage> damages;
};

/// Told how many more bytes were read; an error it returns ends the operation with that error.
using OnBytes = std::function<Result<>(uint64_t bytes)>;

enum class OpenMode { read_only, read_write };

/// Whether anybody uses pages in a way that pins do not show (memory of running processes that the
/// kernel module filled).
using PagesInUse = std::function<Result<bool>(const PageExtent&)>;

struct CreateOptions {
    bool dedup = false;  ///< always on for pools on a device
    /// On a device: destroys the pool or the data it holds.
    bool force = false;
    PagesInUse pages_in_use = {};
    /// The caller knows that no other host uses the pool that is destroyed.
    bool no_other_hosts = false;
};

struct RemoveOptions {
    PagesInUse pages_in_use = {};
    bool no_other_hosts = false;  ///< as in CreateOptions
};

/// Keeps the pages of one template from being reclaimed while it lives (a shared lock on the open
/// file, so also while any mapping made through `fd()` lives).
class TemplatePin {
  public:
    explicit TemplatePin(UniqueFd fd) : fd_(std::move(fd)) {}
    /// A read-only descriptor of the medium, opened for this pin alone: hand it to CRIU.
    [[nodiscard]] int fd() const { return fd_.get(); }

  private:
    UniqueFd fd_;
};

/// One view of a pool; refresh() renews it. Not thread safe: one Pool a thread. Pin a template
/// before relying on what its record refers to: unpinned, it may be removed and reclaimed.
class Pool {
  public:
    /// Creates a pool file of at most `size_bytes` (sparse). Refuses an existing path.
    static Result<Pool> create(const std::string& path, uint64_t size_bytes,
                               const CreateOptions& options = {});
    /// Creates a pool on a whole device DAX device, after checking that it can carry one.
    /// `reference`: a file to create that stands for the pool; empty or `device`: none.
    static Result<Pool> create_on_device(const std::string& device, const std::string& reference,
                                         const CreateOptions& options = {});
    /// The same on a medium that is open already, of whose whole size.
    static Result<Pool> create_on(std::shared_ptr<Medium> medium,
                                  const CreateOptions& options = {});
    /// Opens and validates: a pool file, a device, or a file that stands for a pool on a device.
    /// One clear line each for: missing, not a pool, truncated, future version, both superblocks or
    /// catalogues damaged.
    static Result<Pool> open(const std::string& path, OpenMode mode = OpenMode::read_only);
    /// The same on a medium that is open already.
    static Result<Pool> open(std::shared_ptr<Medium> medium);
    /// Removes a pool, damaged or not: deletes its file, or wipes the superblocks on its device.
    /// Refused while a writer or an instance uses it.
    static Result<> remove(const std::string& path, const RemoveOptions& options = {});
    /// True if the path begins like a pool or stands for one; says nothing about its health.
    static bool is_pool(const std::string& path);

    Pool(Pool&&) noexcept;
    Pool& operator=(Pool&&) noexcept;
    ~Pool();

    /// Of a pool with dedup: reads the extent tables of all templates, once each.
    [[nodiscard]] Result<PoolInfo> info() const;
    [[nodiscard]] std::string uuid() const;
    [[nodiscard]] uint64_t total_pages() const;
    [[nodiscard]] bool dedup() const;
    /// Changes with every commit, whoever makes it: what was verified in this state is still whole.
    [[nodiscard]] Result<std::string> state() const;
    /// Re-reads the superblocks: sees what a writer has committed meanwhile.
    Result<> refresh();
    /// Live templates by name.
    [[nodiscard]] std::vector<TemplateRecord> templates() const;
    [[nodiscard]] Result<TemplateRecord> find(const std::string& name) const;
    /// Whether a template has this id, be it live or removed and not yet reclaimed.
    [[nodiscard]] bool lists(uint64_t id) const;

    /// Blobs, verified against their checksums.
    [[nodiscard]] Result<std::string> read_manifest(const TemplateRecord& record) const;
    [[nodiscard]] Result<std::string> read_profile(const TemplateRecord& record) const;

    [[nodiscard]] const std::string& path() const;
    /// Of a device it can only be mapped, MAP_SHARED.
    [[nodiscard]] int fd() const;
    /// What the pages are read through; may outlive the pool.
    [[nodiscard]] std::shared_ptr<const Medium> medium() const;
    /// The whole pool as shared memory, page n at byte_offset(n); empty for pool files.
    [[nodiscard]] std::span<const std::byte> mapping() const;
    /// Byte offset of a page in the medium: what mmap's offset must be.
    [[nodiscard]] uint64_t byte_offset(uint64_t page) const;
    /// Pages [first, first+count) into `buffer`; bounds-checked, not checksummed.
    [[nodiscard]] Result<> read_pages(PageExtent extent, std::span<std::byte> buffer) const;

    [[nodiscard]] Result<TemplatePin> pin(const TemplateRecord& record) const;
    /// True if somebody on this host has the template pinned.
    [[nodiscard]] Result<bool> in_use(const TemplateRecord& record) const;

    /// Re-reads every byte the template refers to. `on_bytes` is told how much was read.
    [[nodiscard]] Result<VerifyReport> verify_template(const TemplateRecord& record,
                                                       const OnBytes& on_bytes = {}) const;
    /// Superblocks, lease block, both catalogues, every template (removed ones until gc).
    [[nodiscard]] Result<VerifyReport> verify(const OnBytes& on_bytes = {}) const;

  private:
    friend class Writer;
    explicit Pool(std::shared_ptr<PoolState> state);
    std::shared_ptr<PoolState> state_;
};

struct AcquireOptions {
    /// Take the lease over from this host, which does not write any more (the lease block says it
    /// does); "unknown" if the block is damaged. Pools on devices only.
    std::string break_lease_of;
};

struct GcOptions {
    PagesInUse pages_in_use = {};
    /// The caller knows that no other host uses removed templates. Without it, a pool on a device
    /// that other hosts may use keeps them.
    bool no_other_hosts = false;
};

/// The one writer of a pool. Holding it is holding the lease; ends with the object or the process.
class Writer {
  public:
    /// Fails at once, naming the holder, if another writer has the lease.
    static Result<Writer> acquire(Pool& pool, const std::string& purpose,
                                  const AcquireOptions& options = {});

    Writer(Writer&&) noexcept;
    Writer& operator=(Writer&&) noexcept;
    ~Writer();

    [[nodiscard]] bool dedup() const;

    /// Starts a template: pages reserved and written below become part of it at commit; if commit
    /// is not reached they are free again. A template begun earlier and not committed is dropped.
    Result<> begin(const std::string& name, const std::string& domain);
    /// Reserves `count` contiguous pages, all zero (holes where the medium has them).
    Result<PageExtent> reserve(uint64_t count);
    /// Writes whole pages inside what this template has reserved. If the medium fails, the template
    /// is dropped.
    Result<> write_pages(uint64_t first_page, std::span<const std::byte> data);
    /// Puts whole pages somewhere: in a pool with dedup, those that the domain has already are not
    /// stored again. Returns where they are, in order, contiguous parts joined.
    Result<std::vector<PageExtent>> add_pages(std::span<const std::byte> data);
    /// Stores the manifest, makes everything durable, and publishes the template atomically.
    /// `replace`: a live template of that name is retired in the same step. After an I/O error the
    /// pool holds the old or the new catalogue, whole; open it again to see which.
    Result<TemplateRecord> commit(std::string_view manifest, bool replace);

    /// Replaces the profile blob of a live template; an empty one means "not profiled".
    Result<TemplateRecord> store_profile(const std::string& name, std::string_view profile);
    /// Takes a template out of the catalogue; its pages are retired until gc.
    Result<> remove(const std::string& name);

    struct GcReport {
        uint64_t freed_pages = 0;
        uint64_t still_in_use_pages = 0;  ///< retired, but instances still map them
        uint64_t other_hosts_pages = 0;   ///< retired, but other hosts may use them
    };
    /// Returns retired pages that nobody has pinned, and gives their blocks back to the medium.
    Result<GcReport> gc(const GcOptions& options = {});
    /// Raises the size limit.
    Result<> grow(uint64_t size_bytes);

  private:
    explicit Writer(std::unique_ptr<WriterState> state);
    std::unique_ptr<WriterState> state_;
};

}  // namespace memplate::pool
