// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>

namespace memplate::gpu {

/// Where a worker notes the call of a library that it is in: whoever finds it hung or dead names
/// that call.
class CallNote {
  public:
    CallNote() = default;
    explicit CallNote(char* text) : text_(text) {}  ///< 64 bytes, zero
    void enter(const char* call) const {
        if (text_ != nullptr) std::strncpy(text_, call, 63);
    }
    void leave() const {
        if (text_ != nullptr) *text_ = 0;
    }

  private:
    char* text_ = nullptr;
};

}  // namespace memplate::gpu
