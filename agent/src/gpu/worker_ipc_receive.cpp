// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "gpu/transfer_frame.h"
#include "gpu/worker_ipc.h"

namespace memplate::gpu {
namespace {

using Kind = Transport::Kind;

}  // namespace

Result<> Receiver::prepare(uint64_t bytes, const std::vector<Transport>& list, Times& times) {
    TRY(TransferEnd::prepare(bytes, list, times));
    times.skip();
    TRY_ASSIGN(own_, DeviceMemory::allocate(driver_, bytes));
    times.aside("cuMemAlloc");
    if (std::ranges::find(list, Kind::kept, &Transport::kind) == list.end()) return {};
    TRY_ASSIGN(stream_, Stream::create(driver_));
    IpcMemoryHandle memory{};
    IpcEventHandle event{};
    TRY_ASSIGN(const std::string memory_text, hear(sizeof memory));
    TRY_ASSIGN(const std::string event_text, hear(sizeof event));
    std::memcpy(&memory, memory_text.data(), sizeof memory);
    std::memcpy(&event, event_text.data(), sizeof event);
    times.skip();
    TRY_CUDA(driver_, cuIpcOpenMemHandle_v2, (&kept_, memory, ipc_lazy_peer_access));
    times.aside("ipc-kept: open memory handle");
    TRY_ASSIGN(event_, Event::open(driver_, event));
    times.aside("ipc-kept: open event handle");
    return {};
}

Result<> Receiver::release(Times& times) {
    own_ = {};
    event_ = {};
    stream_ = {};
    times.skip();
    if (const DevicePointer opened = std::exchange(kept_, 0); opened != 0) {
        TRY_CUDA(driver_, cuIpcCloseMemHandle, (opened));
        times.aside("ipc-kept: close memory handle");
    }
    return TransferEnd::release(times);
}

Result<Json> Receiver::transfer(const Transport& transport, uint32_t seed, Times& times) {
    host_.wipe();  // what was here before cannot pass for the message
    TRY_CUDA(driver_, cuMemcpyHtoD_v2, (own_.get(), host_.get(), bytes_));
    TRY(synchronize());
    TRY(tell());
    TRY(receive(transport, times));
    TRY(tell());
    return verify(own_.get(), seed);
}

Result<> Receiver::receive(const Transport& transport, Times& times) {
    const auto into_own = [&](const HostMemory& from, const char* arrived) -> Result<> {
        times.mark(arrived);
        TRY_CUDA(driver_, cuMemcpyHtoD_v2, (own_.get(), from.get(), bytes_));
        TRY(synchronize());
        times.mark("host to device");
        return run_kernels(own_.get(), nullptr, times);
    };
    switch (transport.kind) {
        case Kind::stream:
            TRY(receive_tensor(stream_of(transport), host_.bytes()));
            return into_own(host_, "transfer");
        case Kind::memory:
            TRY(hear());
            return into_own(shared_by(transport), "notify");
        case Kind::handles: {
            IpcMemoryHandle handle{};
            TRY_ASSIGN(const std::string text, hear(sizeof handle));
            times.mark("send handle");
            std::memcpy(&handle, text.data(), sizeof handle);
            DevicePointer data = 0;
            TRY_CUDA(driver_, cuIpcOpenMemHandle_v2, (&data, handle, ipc_lazy_peer_access));
            times.mark("open handle");
            TRY(take_over(data, nullptr, times));
            TRY_CUDA(driver_, cuIpcCloseMemHandle, (data));
            times.aside("close handle");
            return {};
        }
        case Kind::kept:
            TRY(hear());
            times.mark("notify");
            TRY_CUDA(driver_, cuStreamWaitEvent, (stream_.get(), event_.get(), 0));
            times.mark("wait for event");
            return take_over(kept_, stream_.get(), times);
        case Kind::virtual_memory: {
            TRY_ASSIGN(const UniqueFd fd, hear_descriptor());
            times.mark("send descriptor");
            TRY_ASSIGN(auto memory, VirtualMemory::import(driver_, device_, fd.get(), bytes_));
            times.mark("import");
            TRY(memory.map());
            times.mark("map");
            TRY(take_over(memory.get(), nullptr, times));
            TRY(memory.release());
            times.aside("unmap and release");
            return {};
        }
        case Kind::streams:
            break;
    }
    return {};
}

Result<> Receiver::take_over(DevicePointer data, CudaStream stream, Times& times) {
    TRY(run_kernels(data, stream, times));
    times.skip();
    TRY_CUDA(driver_, cuMemcpyDtoD_v2, (own_.get(), data, bytes_));
    TRY(synchronize());
    times.aside("copy");
    return {};
}

}  // namespace memplate::gpu
