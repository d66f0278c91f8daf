// SPDX-License-Identifier: Apache-2.0
//
// Our trace format: two comment lines (version; header as JSON), the names of the columns, then a
// line a sample or event. Every line is one write(2) and the file is flushed to the disk each
// second, so a recording that is cut short is good up to its last second.
//
//   # memplate trace 1
//   # {"name":"…","started":"2026-11-21T16:01:22.123Z","method":{…},"environment":{…}}
//   time_ns,memory_bytes,peak_bytes,limit_bytes,inactive_file_bytes,event,detail
//   81234567890,,,,,exec,
//   81234667890,1441792,1523712,,0,,
#pragma once

#include <memory>

#include "cost/trace.h"
#include "util/fd.h"

namespace memplate::cost {

inline constexpr std::string_view trace_signature = "# memplate trace 1";
/// More at once is a broken recording.
inline constexpr uint64_t most_trace_bytes = uint64_t{1} << 50;

/// Appends lines to a new file. The first error is kept and ends the writing.
class LineFile {
  public:
    static Result<LineFile> create(const std::string& path);
    void write(std::string_view line);
    [[nodiscard]] Result<> finish();

  private:
    std::string path_;
    UniqueFd fd_;
    int64_t synced_ns_ = 0;
    Result<> state_;
};

class TraceWriter : public TraceSink {
  public:
    static Result<std::unique_ptr<TraceWriter>> create(const std::string& path, const Json& header);
    explicit TraceWriter(LineFile file) : file_(std::move(file)) {}
    void add(const Sample& sample) override;
    void add(const Event& event) override;
    [[nodiscard]] Result<> finish() { return file_.finish(); }

  private:
    LineFile file_;
};

/// The body of parse_trace() for our own format.
[[nodiscard]] Result<Trace> parse_memplate_trace(std::string_view text, const std::string& origin);

}  // namespace memplate::cost
