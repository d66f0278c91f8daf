// SPDX-License-Identifier: Apache-2.0
#include "answers.skel.h"
#include "trace/probe_parts.h"

namespace memplate::trace {

Attached attach_answers(const Common& common) {
    if (auto loaded = load_object<answers_bpf>(
            common, [](answers_bpf& answers) { want(answers.progs.on_send_length); }))
        return {.programs = std::move(*loaded),
                .method = {.what = "answers",
                           .backend = "sock_send_length",
                           .accuracy = "the end of the first send on a connection of a TCP port "
                                       "that was opened while tracing"}};
    if (auto loaded = load_object<answers_bpf>(
            common, [](answers_bpf& answers) { want(answers.progs.on_tcp_sendmsg); }))
        return {.programs = std::move(*loaded),
                .method = {.what = "answers",
                           .backend = "tcp_sendmsg",
                           .accuracy = "the end of the first send on a connection of a TCP port "
                                       "that was opened while tracing; sendfile() is not seen"}};
    return {.programs = {},
            .method = {.what = "answers",
                       .backend = "none",
                       .accuracy = "this kernel lets nothing be told about what servers send"}};
}

}  // namespace memplate::trace
