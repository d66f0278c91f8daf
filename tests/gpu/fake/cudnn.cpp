// SPDX-License-Identifier: Apache-2.0
//
// cuDNN: handles.
#include "fake/settings.h"

namespace {
int the_handle = 0;
}

FAKE_EXPORT int cudnnCreate(void** handle) {
    FAKE_ENTER();
    *handle = &the_handle;
    return 0;
}

FAKE_EXPORT int cudnnDestroy(void* handle) {
    FAKE_ENTER();
    return handle == &the_handle ? 0 : 1;
}

FAKE_EXPORT size_t cudnnGetVersion() {
    return 91300;
}
