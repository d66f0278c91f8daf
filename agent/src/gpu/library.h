// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "util/result.h"

namespace memplate::gpu {

/// A shared library opened while the program runs; closed when it goes out of scope.
class Library {
  public:
    /// The first of `names` that the dynamic linker finds. ErrorKind::unsupported, with what the
    /// linker said of the first, if none is there.
    static Result<Library> open(const std::vector<std::string>& names);

    /// Null if it has no such symbol.
    [[nodiscard]] void* symbol(const char* name) const;
    /// Sets `pointer` to the symbol; false if there is none.
    template <class Pointer>
    bool find(const char* name, Pointer& pointer) const {
        pointer = reinterpret_cast<Pointer>(symbol(name));
        return pointer != nullptr;
    }
    /// The file it was loaded from.
    [[nodiscard]] std::string path() const;

  private:
    struct Close {
        void operator()(void* handle) const;
    };
    std::unique_ptr<void, Close> handle_;
};

}  // namespace memplate::gpu
