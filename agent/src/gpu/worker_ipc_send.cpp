// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gpu/transfer_frame.h"
#include "gpu/worker_ipc.h"

namespace memplate::gpu {
namespace {

using Kind = Transport::Kind;

/// What a handle names is a whole allocation of the driver, and small ones share one.
constexpr uint64_t separate(uint64_t bytes) {
    constexpr uint64_t unit = 2 << 20;
    return (bytes + unit - 1) / unit * unit;
}

template <class Handle>
std::string_view text_of(const Handle& handle) {
    return {handle.bytes, sizeof handle.bytes};
}

bool any(const std::vector<Transport>& list, std::initializer_list<Kind> kinds) {
    return std::ranges::any_of(list, [&](const Transport& one) {
        return std::ranges::find(kinds, one.kind) != kinds.end();
    });
}

}  // namespace

Result<> Sender::prepare(uint64_t bytes, const std::vector<Transport>& list, Times& times) {
    TRY(TransferEnd::prepare(bytes, list, times));
    times.skip();
    if (any(list, {Kind::stream, Kind::memory, Kind::handles, Kind::streams})) {
        TRY_ASSIGN(plain_, DeviceMemory::allocate(driver_, separate(bytes)));
        times.aside("cuMemAlloc");
    }
    if (any(list, {Kind::virtual_memory})) {
        TRY_ASSIGN(virtual_, VirtualMemory::create(driver_, device_, bytes));
        times.aside("vmm-fd: create and map");
    }
    if (any(list, {Kind::streams})) {
        TRY_ASSIGN(other_, DeviceMemory::allocate(driver_, bytes));
        TRY_ASSIGN(other_stream_, Stream::create(driver_));
        TRY_ASSIGN(local_event_, Event::create(driver_, event_disable_timing));
    }
    if (!any(list, {Kind::kept, Kind::streams})) return {};
    TRY_ASSIGN(stream_, Stream::create(driver_));
    if (!any(list, {Kind::kept})) return {};
    TRY_ASSIGN(kept_, DeviceMemory::allocate(driver_, separate(bytes)));
    TRY_ASSIGN(event_, Event::create(driver_, event_disable_timing | event_interprocess));
    times.skip();
    IpcMemoryHandle memory{};
    TRY_CUDA(driver_, cuIpcGetMemHandle, (&memory, kept_.get()));
    times.aside("ipc-kept: get memory handle");
    IpcEventHandle event{};
    TRY_CUDA(driver_, cuIpcGetEventHandle, (&event, event_.get()));
    times.aside("ipc-kept: get event handle");
    TRY(tell(text_of(memory)));
    return tell(text_of(event));
}

Result<> Sender::release(Times& times) {
    plain_ = {};
    kept_ = {};
    other_ = {};
    event_ = {};
    local_event_ = {};
    stream_ = {};
    other_stream_ = {};
    TRY(virtual_.release());
    return TransferEnd::release(times);
}

DevicePointer Sender::source_of(const Transport& transport) const {
    if (transport.kind == Kind::kept) return kept_.get();
    return transport.kind == Kind::virtual_memory ? virtual_.get() : plain_.get();
}

Result<Json> Sender::transfer(const Transport& transport, uint32_t seed, Times& times) {
    write_pattern(host_.words(), seed);
    TRY_CUDA(driver_, cuMemcpyHtoD_v2, (source_of(transport), host_.get(), bytes_));
    TRY(synchronize());
    host_.wipe();  // what is sent comes from the device
    if (transport.kind == Kind::streams) return within(seed, times);
    if (transport.kind == Kind::memory) shared_by(transport).wipe();
    TRY(hear());  // the receiver waits
    times = {};
    TRY(send(transport, times));
    TRY(hear());  // the receiver needs it no more
    return Json::object();
}

Result<> Sender::send(const Transport& transport, Times& times) {
    const DevicePointer source = source_of(transport);
    switch (transport.kind) {
        case Kind::stream:
            TRY_CUDA(driver_, cuMemcpyDtoH_v2, (host_.get(), source, bytes_));
            times.mark("device to host");
            return send_tensor(stream_of(transport), host_.bytes());
        case Kind::memory:
            TRY_CUDA(driver_, cuMemcpyDtoH_v2, (shared_by(transport).get(), source, bytes_));
            times.mark("device to host");
            return tell();
        case Kind::handles: {
            IpcMemoryHandle handle{};
            TRY_CUDA(driver_, cuIpcGetMemHandle, (&handle, source));
            times.mark("get handle");
            return tell(text_of(handle));
        }
        case Kind::kept:
            TRY_CUDA(driver_, cuEventRecord, (event_.get(), stream_.get()));
            times.mark("record event");
            return tell();
        case Kind::virtual_memory: {
            TRY_ASSIGN(const UniqueFd fd, virtual_.export_descriptor());
            times.mark("export");
            return tell(".", {fd.get()});
        }
        case Kind::streams:
            break;
    }
    return {};
}

Result<Json> Sender::within(uint32_t seed, Times& times) {
    TRY_CUDA(driver_, cuMemcpyHtoD_v2, (other_.get(), host_.get(), bytes_));
    TRY(synchronize());
    times = {};
    TRY_CUDA(driver_, cuEventRecord, (local_event_.get(), stream_.get()));
    times.mark("record event");
    TRY_CUDA(driver_, cuStreamWaitEvent, (other_stream_.get(), local_event_.get(), 0));
    times.mark("wait for event");
    TRY(run_kernels(plain_.get(), other_stream_.get(), times));
    times.skip();
    TRY_CUDA(driver_, cuMemcpyDtoD_v2, (other_.get(), plain_.get(), bytes_));
    TRY(synchronize());
    times.aside("copy");
    return verify(other_.get(), seed);
}

}  // namespace memplate::gpu
