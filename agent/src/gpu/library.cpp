// SPDX-License-Identifier: Apache-2.0
#include "gpu/library.h"

#include <dlfcn.h>
#include <link.h>

namespace memplate::gpu {

void Library::Close::operator()(void* handle) const {
    ::dlclose(handle);
}

Result<Library> Library::open(const std::vector<std::string>& names) {
    std::string reason;
    for (const std::string& name : names) {
        Library library;
        // NVIDIA's libraries have threads and exit handlers: their code stays until the process
        // ends.
        library.handle_.reset(::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE));
        if (library.handle_) return library;
        if (reason.empty()) reason = ::dlerror();
    }
    return fail(ErrorKind::unsupported, reason);
}

void* Library::symbol(const char* name) const {
    return ::dlsym(handle_.get(), name);
}

std::string Library::path() const {
    link_map* map = nullptr;
    if (::dlinfo(handle_.get(), RTLD_DI_LINKMAP, static_cast<void*>(&map)) != 0 || map == nullptr)
        return {};
    return map->l_name;
}

}  // namespace memplate::gpu
