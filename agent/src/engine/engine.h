// SPDX-License-Identifier: Apache-2.0
//
// Engines: how template pages reach an instance. Each turns a template into a directory of CRIU
// images that stock CRIU restores; what differs is where the memory comes from.
//   copy      all pages are in the images; CRIU reads them into fresh memory
//   lazy      the same images; a lazy-pages daemon delivers each page on first touch
//   mapped    runs of pages are private file mappings of the pool (DESIGN.md D2)
//   attached  the kernel module fills the memory that CRIU leaves empty (DESIGN.md D3)
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "template/template.h"
#include "util/context.h"

namespace memplate::engine {

class ModuleTemplates;

enum class Kind { copy, lazy, mapped, attached };

[[nodiscard]] std::string_view name_of(Kind kind);
/// "auto" gives nullopt; anything unknown is an error of kind usage.
[[nodiscard]] Result<std::optional<Kind>> parse_kind(std::string_view text);

struct Choice {
    Kind kind = Kind::copy;
    std::string reason;
    std::vector<std::string> warnings;  ///< for stderr
};

/// Whether the module is there, fits, and may be used; if not, why.
[[nodiscard]] Result<> module_is_usable();

/// `auto`: attached if the module is usable (`attached`); else mapped unless a hazard of the
/// template or the kind of pool rules it out; else copy. A request is followed, with a warning
/// where it is dangerous; what cannot be done here is an error of kind unsupported.
[[nodiscard]] Result<Choice> choose(const Template& tmpl, std::optional<Kind> requested,
                                    const Result<>& attached = module_is_usable());

/// The name under which mapped images mention the pool; CRIU gets its descriptor for it.
inline constexpr const char* pool_file_key = "memplate-pool";

/// Which pages engine attached delivers at the first touch instead of before.
enum class Lazy {
    never,
    untouched,   ///< those that the profile saw neither read nor written
    everything,  ///< all that allow it: to learn what is touched
};

struct WriteOptions {
    Lazy lazy = Lazy::never;  ///< engine attached only
    /// Cut the capabilities in the images down to what a container may have (DESIGN.md D8).
    bool restrict_capabilities = true;
    /// Directories inside the sandbox whose files may have another size than at the checkpoint.
    std::vector<std::string> volatile_directories;
};

/// Writes the images of `tmpl` for an engine into an empty directory.
[[nodiscard]] Result<> write_images(Kind kind, const Template& tmpl, int directory,
                                    const WriteOptions& options);

/// Images ready for CRIU, in the host's cache.
struct Prepared {
    Kind kind = Kind::copy;
    std::string directory;
    /// Engine attached: what fills the memory; shared by all restores from here.
    std::shared_ptr<const ModuleTemplates> memory = nullptr;
};

/// How long the module's copy of a template is kept.
enum class Keep {
    here,       ///< as long as this Prepared lives
    host_wide,  ///< by a process of its own, so that later runs share its pages
};

/// Profile generations from this on are in no catalogue: those of trials while a profile is learnt.
inline constexpr uint64_t trial_generation = UINT64_MAX - 1;

struct PrepareOptions {
    Keep keep = Keep::here;
    bool learning = false;  ///< a profile is to be learnt: touched pages must be seen
};

/// Finds or makes the images in the cache. On the first use of a pool after any change to its
/// file, every byte of the template is verified; damage is an error that names the extent.
[[nodiscard]] Result<Prepared> prepare(const Context& context, const pool::Pool& pool,
                                       const Template& tmpl, Kind kind,
                                       const PrepareOptions& options = {});

/// Removes what the cache and the module hold of a template (all engines) or, with id 0, of the
/// whole pool. Running instances are not affected.
[[nodiscard]] Result<> drop_cached(const Context& context, const std::string& pool_uuid,
                                   uint64_t template_id);

/// Removes the cached images of templates that a garbage collection has reclaimed.
[[nodiscard]] Result<> drop_reclaimed(const Context& context, const pool::Pool& pool);

/// Removes the images of trials of a template.
[[nodiscard]] Result<> drop_trial(const Context& context, const pool::Pool& pool,
                                  const Template& tmpl);

/// Removes cached images whose pool does not exist any more, and what killed holders have left.
[[nodiscard]] Result<> drop_stale(const Context& context);

}  // namespace memplate::engine
