// SPDX-License-Identifier: Apache-2.0
//
// What a checkpoint locks: every call of the library passes through it.
#pragma once

#include <chrono>

namespace fake_gpu {

class Gate {
  public:
    /// Held during a call; waits while the gate is closed. Calls within calls do not wait.
    class Pass {
      public:
        Pass();
        ~Pass();
        Pass(const Pass&) = delete;
        Pass& operator=(const Pass&) = delete;
    };
    /// Closes it and waits for the calls under way; open again and false if they last longer.
    static bool close(std::chrono::milliseconds timeout);
    static void open();
};

}  // namespace fake_gpu
