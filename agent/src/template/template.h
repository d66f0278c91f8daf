// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "criu/images.h"
#include "template.pb.h"
#include "template/page_store.h"

namespace memplate {

inline constexpr uint32_t manifest_version = 1;
inline constexpr uint32_t profile_version = 1;

/// A stored template: immutable but for its profile.
struct Template {
    pool::TemplateRecord record;
    proto::Manifest manifest;
    std::optional<proto::Profile> profile;
    PageSource pages;  ///< borrows the pool's descriptor: the pool must outlive this

    /// Reads and validates: every run, stretch and image lies inside the pool and in order.
    static Result<Template> open(const pool::Pool& pool, const std::string& name);

    /// Bytes of a kept image.
    [[nodiscard]] Result<std::string> image(const proto::Image& entry) const;
    [[nodiscard]] Result<std::string> image(const std::string& name) const;
    [[nodiscard]] bool has_image(const std::string& name) const;

    /// Evidence that rules out choosing `mapped` by itself; nullptr if there is none.
    [[nodiscard]] const proto::Hazard* blocking_hazard() const;
    /// Written pages of a process according to the profile; empty without one.
    [[nodiscard]] const proto::ProcessProfile* profile_of(uint32_t pid) const;
};

/// The checks of open(), on their own (fuzzed). `pages`: only its bound is used.
[[nodiscard]] Result<> validate(const proto::Manifest& manifest, const PageSource& pages);

/// Ascending, page-aligned stretches of a known version. What is not is ignored by open().
[[nodiscard]] Result<> validate(const proto::Profile& profile);

/// Page counts of a template, for people.
struct PageCounts {
    uint64_t stored = 0;     ///< pages that hold data
    uint64_t shared = 0;     ///< of those: delivered by mapping
    uint64_t precopied = 0;  ///< of those: inside mapped runs, but copied because the profile saw
                             ///< them written
    uint64_t copied = 0;     ///< of those: in runs that are not mapped at all
    uint64_t zero = 0;       ///< left out
    uint64_t holes = 0;      ///< reserved but empty, between joined runs
};
[[nodiscard]] PageCounts count_pages(const Template& tmpl);

/// Whether a run is delivered as a mapping, given the profile: a run most of whose pages are
/// written anyway is copied instead.
[[nodiscard]] bool run_is_mapped(const proto::Run& run, uint64_t written_pages);

/// Pages in the intersection of a run with ascending stretches.
[[nodiscard]] uint64_t pages_within(
    const proto::Run& run, const google::protobuf::RepeatedPtrField<proto::Stretch>& stretches);

[[nodiscard]] std::string_view placement_reason(proto::Placement placement);
[[nodiscard]] std::string_view owner_name(proto::PageOwner owner);

}  // namespace memplate
