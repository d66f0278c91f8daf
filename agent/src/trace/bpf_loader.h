// SPDX-License-Identifier: Apache-2.0
//
// BPF objects as the skeletons of bpftool know them: opened, given the maps and constants that all
// of them share, loaded and attached. Whether a kernel takes a program is found by loading it.
#pragma once

#include <bpf/libbpf.h>

#include <map>
#include <memory>
#include <string>

#include "events.h"
#include "util/result.h"

namespace memplate::trace {

template <class Skeleton>
struct DestroySkeleton {
    void operator()(Skeleton* skeleton) const { Skeleton::destroy(skeleton); }
};
template <class Skeleton>
using OwnedSkeleton = std::unique_ptr<Skeleton, DestroySkeleton<Skeleton>>;

struct DestroyLink {
    void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};
using OwnedLink = std::unique_ptr<bpf_link, DestroyLink>;

/// What all objects have in common.
struct Common {
    memplate_settings settings{};
    std::map<std::string, int> maps{};  ///< by name, of the object that was loaded first
};

/// One line that says why a program could not be loaded: the cause, as far as it is known, and what
/// to do. unsupported.
[[nodiscard]] Failure cannot_load(int error);

/// Lets `object` use the maps of the first one.
[[nodiscard]] Result<> share_maps(bpf_object* object, const Common& common);
/// Remembers the maps of the first object.
void take_maps(const bpf_object* object, Common& common);

/// `choose` says which optional programs are wanted, before the kernel sees them.
template <class Skeleton, class Choose>
Result<OwnedSkeleton<Skeleton>> load_object(const Common& common, const Choose& choose) {
    OwnedSkeleton<Skeleton> skeleton(Skeleton::open());
    if (!skeleton) return cannot_load(errno);
    skeleton->rodata->settings = common.settings;
    TRY(share_maps(skeleton->obj, common));
    choose(*skeleton);
    if (const int error = Skeleton::load(skeleton.get()); error != 0) return cannot_load(-error);
    if (const int error = Skeleton::attach(skeleton.get()); error != 0) return cannot_load(-error);
    return skeleton;
}

inline void want(bpf_program* program) {
    bpf_program__set_autoload(program, true);
}

}  // namespace memplate::trace
