// SPDX-License-Identifier: Apache-2.0
//
// memplate-keeper: pid 1 of a sandbox. Started by the agent in new namespaces; not for people.
#include <sys/prctl.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdio>

#include "sandbox/keeper_fault.h"
#include "sandbox/keeper_server.h"
#include "sandbox/message.h"

int main() {
    using namespace memplate;
    if (::getpid() != 1) {
        std::fprintf(stderr, "memplate-keeper: started by memplate only\n");
        return 2;
    }
    ::setsid();
    for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
    // Processes inside that run as the same user must not get at the descriptors held here.
    ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    for (const int fd :
         {sandbox::control_descriptor, sandbox::directory_descriptor, sandbox::lock_descriptor}) {
        if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return 2;
    }
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
    return keeper::Server().run();
}
