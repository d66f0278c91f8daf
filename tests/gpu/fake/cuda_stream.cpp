// SPDX-License-Identifier: Apache-2.0
//
// Streams and events: everything the fake does is done when the call returns.
#include "fake/cuda_state.h"
#include "fake/settings.h"

using namespace memplate::gpu;
using fake_gpu::state;

namespace {

template <class Handle>
Handle new_handle() {
    const std::lock_guard lock(state().mutex);
    return reinterpret_cast<Handle>(state().next_handle++);
}

}  // namespace

FAKE_EXPORT CudaResult cuStreamCreate(CudaStream* stream, unsigned) {
    FAKE_ENTER();
    *stream = new_handle<CudaStream>();
    return cuda_success;
}

FAKE_EXPORT CudaResult cuStreamSynchronize(CudaStream) {
    FAKE_ENTER();
    return cuda_success;
}

FAKE_EXPORT CudaResult cuStreamWaitEvent(CudaStream, CudaEvent, unsigned) {
    FAKE_ENTER();
    return cuda_success;
}

FAKE_EXPORT CudaResult cuStreamDestroy_v2(CudaStream) {
    FAKE_ENTER();
    return cuda_success;
}

FAKE_EXPORT CudaResult cuEventCreate(CudaEvent* event, unsigned) {
    FAKE_ENTER();
    *event = new_handle<CudaEvent>();
    return cuda_success;
}

FAKE_EXPORT CudaResult cuEventRecord(CudaEvent, CudaStream) {
    FAKE_ENTER();
    return cuda_success;
}

FAKE_EXPORT CudaResult cuEventSynchronize(CudaEvent) {
    FAKE_ENTER();
    return cuda_success;
}

FAKE_EXPORT CudaResult cuEventDestroy_v2(CudaEvent) {
    FAKE_ENTER();
    return cuda_success;
}
