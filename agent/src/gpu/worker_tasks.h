// SPDX-License-Identifier: Apache-2.0
//
// What workers do. Each task reads its request and answers through the channel; an Error that it
// returns is sent as its last message.
#pragma once

#include "gpu/driver.h"
#include "gpu/worker.h"

namespace memplate::gpu {

/// One answer: see info.h.
Result<> info_task(Channel& channel, const Json& request);
/// ErrorKind::unsupported if the driver cannot checkpoint processes.
Result<> check_checkpoint_support(const Driver& driver);
/// Serves a Checkpointer until it goes.
Result<> checkpoint_task(Channel& channel, const Json& request);
/// {"device", "ptx", "pinned", "weights_bytes", "cublas", "cudnn"} → {"stamps": [[phase, end in ns
/// of CLOCK_MONOTONIC]]}, then, with what was computed verified, {"module_loading", "libraries":
/// {"cublas" | "cudnn": {"library", "version"} | {"missing"}}, "files": mapped ones}.
Result<> cold_start_task(Channel& channel, const Json& request);
/// "context", "code" and "model" in that order, each answered when it is done, then "end".
Result<> footprint_task(Channel& channel, const Json& request);
/// {"uuid"}; each "read" is answered with {"used_bytes", "free_bytes", "total_bytes", "processes":
/// [{"pid", "bytes" (where it is known), "mps"}]}, until "end".
Result<> nvml_task(Channel& channel, const Json& request);
/// See worker_ipc.cpp.
Result<> ipc_task(Channel& channel, const Json& request);

}  // namespace memplate::gpu
