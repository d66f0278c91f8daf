// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <unistd.h>

#include <array>

#include "sweep.skel.h"
#include "trace/probe_parts.h"

namespace memplate::trace {
namespace {

struct FreeRing {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};

class IteratorSweeper : public Sweeper {
  public:
    Result<> load(const Common& common, int directory_fd) {
        TRY_ASSIGN(skeleton_, load_object<sweep_bpf>(common, [](sweep_bpf& sweep) {
                       bpf_program__set_autoattach(sweep.progs.sweep_cgroup, false);
                   }));
        bpf_iter_link_info info{};
        info.cgroup.order = BPF_CGROUP_ITER_DESCENDANTS_PRE;
        info.cgroup.cgroup_fd = static_cast<__u32>(directory_fd);
        bpf_iter_attach_opts options{};
        options.sz = sizeof(options);
        options.link_info = &info;
        options.link_info_len = sizeof(info);
        link_.reset(bpf_program__attach_iter(skeleton_->progs.sweep_cgroup, &options));
        if (!link_) return cannot_load(errno);
        const auto pass_on = [](void* self, void* data, size_t) {
            (*static_cast<IteratorSweeper*>(self)->sink_)(*static_cast<memplate_swept*>(data));
            return 0;
        };
        ring_.reset(ring_buffer__new(bpf_map__fd(skeleton_->maps.swept), pass_on, this, nullptr));
        if (!ring_) return cannot_load(errno);
        return {};
    }

    Result<> sweep(const std::function<void(const memplate_swept&)>& sink) override {
        const UniqueFd walk(bpf_iter_create(bpf_link__fd(link_.get())));
        if (!walk) return fail_errno(errno, "BPF iterator of cgroups");
        std::array<char, 64> nothing{};
        ssize_t got = 0;
        while ((got = ::read(walk.get(), nothing.data(), nothing.size())) != 0)
            if (got < 0 && errno != EINTR && errno != EAGAIN)
                return fail_errno(errno, "BPF iterator of cgroups");
        sink_ = &sink;
        const int consumed = ring_buffer__consume(ring_.get());
        sink_ = nullptr;
        if (consumed < 0) return fail_errno(-consumed, "BPF ring buffer");
        return {};
    }

  private:
    OwnedSkeleton<sweep_bpf> skeleton_;
    OwnedLink link_;
    std::unique_ptr<ring_buffer, FreeRing> ring_;
    const std::function<void(const memplate_swept&)>* sink_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<Sweeper>> Sweeper::attach(const Common& common, int directory_fd) {
    auto sweeper = std::make_unique<IteratorSweeper>();
    TRY(sweeper->load(common, directory_fd));
    return sweeper;
}

}  // namespace memplate::trace
