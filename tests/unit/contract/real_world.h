// The real world as contract tests want it: loopback, and a temporary directory that goes when the test ends.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <optional>
#include <string>

#include "core/env/env.h"
#include "disk/real_disk.h"
#include "net/event_loop.h"
#include "net/random.h"
#include "net/tcp.h"
#include "net/trace.h"
#include "tests/test.h"

namespace mneme::contract {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* base = ::getenv("TMPDIR");
    path_ = std::string(base && *base ? base : "/tmp") + "/mneme-contract-XXXXXX";
    if (!::mkdtemp(path_.data())) FAIL("no temporary directory " << path_);
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

template <disk::Way kWay>
class RealWorld {
 public:
  RealWorld() {
    disk::Options options{.root = directory_.path(), .way = kWay, .busy = [this] { return calls_++ % 3 * 1000; }};
    auto opened = disk::open_disk(scheduler_, loop_, std::move(options));
    if (opened) {
      disk_ = std::move(*opened);
      env_.emplace(Env{scheduler_, loop_, network_, *disk_, random_, trace_});
    } else {
      if (opened.error().code != ErrorCode::kUnsupported) FAIL(opened.error().message);
      unavailable_ = opened.error().message;
    }
  }

  const char* unavailable() const { return disk_ ? nullptr : unavailable_.c_str(); }
  Env& here() { return *env_; }
  Env& there() { return *env_; }
  std::string there_host() const { return "127.0.0.1"; }
  template <class F>
  void run(F&& fn) {
    scheduler_.run(loop_, nullptr, std::forward<F>(fn));
  }

  net::EventLoop& loop() { return loop_; }
  const std::string& root() const { return directory_.path(); }

 private:
  TemporaryDirectory directory_;
  size_t calls_ = 0;  // kAdaptive goes now the one way, now the other
  fiber::Scheduler scheduler_;
  net::EventLoop loop_{scheduler_};
  net::TcpNetwork network_{loop_};
  net::SystemRandom random_;
  net::StderrTrace trace_{loop_, env::Level::kWarn};
  std::unique_ptr<env::Disk> disk_;
  std::string unavailable_;
  std::optional<Env> env_;
};

}  // namespace mneme::contract
