// SPDX-License-Identifier: Apache-2.0
//
// Probes that try on the running kernel what the agent will do. Each leaves nothing behind.
#pragma once

#include <string>

#include "util/result.h"

namespace memplate::check {

/// Creates a namespace of one kind (CLONE_NEW…) in a child process.
[[nodiscard]] Result<> try_namespace(int flag);
/// Mounts an overlay of / with a tmpfs on top, in a mount namespace of its own.
[[nodiscard]] Result<> try_overlay();
/// Creates links in a network namespace of its own.
[[nodiscard]] Result<> try_bridge();
[[nodiscard]] Result<> try_veth();
/// Opens a userfaultfd with the events that restored processes need.
[[nodiscard]] Result<> try_userfaultfd();
/// Seals a memfd against writing and maps it privately.
[[nodiscard]] Result<> try_memfd_sealing();
/// Sees in /proc/self/pagemap which pages were copied on write.
[[nodiscard]] Result<> try_pagemap();
/// Whether CRIU can read the options of an internet socket (it asks for SO_PASSCRED before 4.2).
[[nodiscard]] Result<> try_socket_options();
/// Loads the CUDA driver library; its version as text.
[[nodiscard]] Result<std::string> try_cuda_driver();

}  // namespace memplate::check
