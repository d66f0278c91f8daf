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

}  // namespace memplate::gpu
