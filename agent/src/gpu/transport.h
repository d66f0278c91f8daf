// SPDX-License-Identifier: Apache-2.0
//
// The ways in which one function hands data in GPU memory to another.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace memplate::gpu {

struct Transport {
    enum class Kind {
        stream,   ///< device → host, bytes through a descriptor, host → device
        memory,   ///< device → host memory that both see → device
        handles,  ///< CUDA IPC handles, got and opened for each message
        kept,     ///< CUDA IPC handles that stay open; an event orders the work on both sides
        virtual_memory,  ///< physical memory of cuMemCreate as a file descriptor
        streams,         ///< both functions are streams of one process
    };
    std::string_view name;
    Kind kind;
    std::string_view description;

    /// The receiver uses the sender's memory; the others fill memory of its own.
    [[nodiscard]] constexpr bool hands_over() const {
        return kind != Kind::stream && kind != Kind::memory;
    }
};

inline constexpr std::array transports = {
    Transport{"pipe", Transport::Kind::stream, "pipe(2) between two processes"},
    Transport{"unix", Transport::Kind::stream, "stream socket, AF_UNIX"},
    Transport{"tcp", Transport::Kind::stream, "TCP over 127.0.0.1"},
    Transport{"shm", Transport::Kind::memory, "shared host memory"},
    Transport{"shm-pinned", Transport::Kind::memory,
              "shared host memory that both registered with the driver"},
    Transport{"ipc", Transport::Kind::handles, "CUDA IPC memory handle, opened for each message"},
    Transport{"ipc-kept", Transport::Kind::kept, "CUDA IPC memory handle kept open, and an event"},
    Transport{"vmm-fd", Transport::Kind::virtual_memory, "cuMemCreate memory as a file descriptor"},
    Transport{"streams", Transport::Kind::streams, "two streams of one process, and an event"},
};

[[nodiscard]] constexpr std::optional<Transport> find_transport(std::string_view name) {
    for (const Transport& one : transports)
        if (one.name == name) return one;
    return std::nullopt;
}

}  // namespace memplate::gpu
