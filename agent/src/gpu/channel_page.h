// SPDX-License-Identifier: Apache-2.0
//
// What memplate and a worker share, for worker.cpp and channel.cpp.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstring>
#include <optional>

#include "gpu/worker.h"

namespace memplate::gpu {

struct Worker::Page {
    int64_t exec_ns;
    int64_t main_ns;
    char note[64];  ///< the call the worker is in; the worker may die at any byte of it

    static Result<Page*> map(int fd) {
        void* address = ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (address == MAP_FAILED) return fail_errno(errno, "mmap");
        return static_cast<Page*>(address);
    }
    [[nodiscard]] std::string call() const { return {note, ::strnlen(note, sizeof note)}; }
};

struct Received {
    Json message;
    std::vector<UniqueFd> descriptors;
};
/// Nothing if the peer is gone.
Result<std::optional<Received>> receive_json(int socket);

}  // namespace memplate::gpu
