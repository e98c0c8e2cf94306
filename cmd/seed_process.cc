#include "cmd/seed_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "sim/scenarios/branching.h"

namespace mneme::cmd {

namespace {

constexpr unsigned kSecondsPerRun = 300;  // one that takes longer hangs

std::string read_all(int fd) {
  std::string all;
  char chunk[16384];
  for (;;) {
    ssize_t n = ::read(fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return all;
    all.append(chunk, static_cast<size_t>(n));
  }
}

int64_t microseconds(const timeval& t) { return int64_t{t.tv_sec} * 1'000'000 + t.tv_usec; }

}  // namespace

void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(70);  // nobody reads any more
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

std::string encode(const SeedOutcome& o) {
  std::string body;
  Writer w(body);
  w.u64(o.seed);
  w.u64(o.branches.size());
  for (const sim::Branch& branch : o.branches) {
    w.u64(branch.event);
    w.u64(branch.nth);
  }
  w.u8(o.second);
  w.u8(o.crashed);
  w.u8(static_cast<uint8_t>(o.result.verdict));
  w.blob(o.result.property);
  w.blob(o.result.summary);
  w.blob(o.result.details);
  w.u64(o.result.events);
  w.u64(o.result.operations);
  w.u64(o.result.unknown);
  w.u64(o.result.faults);
  w.i64(o.result.virtual_ns);
  w.u64(o.result.trace_hash);
  w.i64(o.cpu_us);
  w.i64(o.peak_rss_kib);
  for (uint64_t count : o.result.probes) w.u64(count);
  std::string frame;
  Writer(frame).blob(body);
  return frame;
}

bool decode(std::string_view frame, SeedOutcome& o) {
  Reader r(frame);
  o.seed = r.u64();
  for (uint64_t left = r.u64(); left > 0 && r.ok(); --left) {
    const uint64_t event = r.u64();
    o.branches.push_back({event, r.u64()});
  }
  o.second = r.u8();
  o.crashed = r.u8();
  o.result.verdict = static_cast<sim::RunVerdict>(r.u8());
  o.result.property = r.blob();
  o.result.summary = r.blob();
  o.result.details = r.blob();
  o.result.events = r.u64();
  o.result.operations = r.u64();
  o.result.unknown = r.u64();
  o.result.faults = r.u64();
  o.result.virtual_ns = r.i64();
  o.result.trace_hash = r.u64();
  o.cpu_us = r.i64();
  o.peak_rss_kib = r.i64();
  for (uint64_t& count : o.result.probes) count = r.u64();
  return r.ok() && r.at_end();
}

namespace {

// A process that reports outcomes: its own, and those of the processes that it waited for.
struct Child {
  pid_t pid;  // 0: in the child itself
  int out;
  int errors;
};

Child start_child() {
  int out[2];
  CHECK(::pipe2(out, O_CLOEXEC) == 0);
  const int errors = ::memfd_create("stderr", MFD_CLOEXEC);
  const pid_t parent = ::getpid();
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) _exit(70);
    ::close(out[0]);
    ::dup2(errors, STDERR_FILENO);
    ::close(errors);
    ::alarm(kSecondsPerRun);
    return {0, out[1], -1};
  }
  ::close(out[1]);
  return {pid, out[0], errors};
}

// What became of a process that ended without an outcome of its own.
void explain_end(int status, std::string said, sim::RunResult& result) {
  said.resize(std::min<size_t>(said.size(), 6000));  // what a sanitizer found comes first
  const size_t check = said.find("CHECK failed");
  result.verdict = sim::RunVerdict::kFailed;
  if (check != said.npos) {
    result.property = "check";
    result.summary = said.substr(check, said.find('\n', check) - check);
  } else if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    result.property = signal == SIGALRM ? "hang" : "crash";
    result.summary = fmt::format("the process ended by signal {} ({})", signal, strsignal(signal));
  } else {
    result.property = "crash";
    result.summary = fmt::format("the process ended with exit code {}", WEXITSTATUS(status));
  }
  result.details = std::move(said);
}

// Waits for a child that was started for a recipe.
std::vector<SeedOutcome> finish(const Child& child, uint64_t seed, const sim::Branches& branches) {
  const std::string frames = read_all(child.out);
  ::close(child.out);
  int status = 0;
  rusage usage{};
  while (::wait4(child.pid, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  std::vector<SeedOutcome> outcomes(1);
  bool reported = false;
  int64_t cpu_us = microseconds(usage.ru_utime) + microseconds(usage.ru_stime);  // of all that it waited for, too
  Reader r(frames);
  for (SeedOutcome outcome; decode(r.blob(), outcome); outcome = {}) {
    cpu_us -= outcome.cpu_us;
    const bool own = outcome.branches == branches;
    reported |= own;
    (own ? outcomes[0] : outcomes.emplace_back()) = std::move(outcome);
  }
  SeedOutcome& own = outcomes[0];
  own.seed = seed;
  own.branches = branches;
  own.cpu_us = cpu_us;
  own.peak_rss_kib = usage.ru_maxrss;
  if (!reported) {
    own.crashed = true;
    ::lseek(child.errors, 0, SEEK_SET);
    explain_end(status, read_all(child.errors), own.result);
  }
  ::close(child.errors);
  return outcomes;
}

// The life of a child.
[[noreturn]] void run_and_report(int out, const sim::Recipe& recipe, sim::RunHooks hooks, uint64_t energy,
                                 Branching branching) {
  SeedOutcome outcome{.seed = recipe.seed, .branches = recipe.branches};
  sim::Energy left(energy);
  std::vector<sim::Recipe> postponed;
  auto fork_here = [&](uint64_t event, std::span<const Probe> first) -> uint64_t {
    const uint64_t branches = left.spend(first);
    for (uint64_t nth = 1; nth <= branches; ++nth) {
      sim::Branches branched = outcome.branches;
      branched.push_back({event, nth});
      if (branching == Branching::kReplay) {
        postponed.push_back(recipe);
        postponed.back().branches = std::move(branched);
        continue;
      }
      const unsigned remaining = ::alarm(0);
      const Child child = start_child();
      if (child.pid == 0) {
        ::close(std::exchange(out, child.out));
        outcome.branches = std::move(branched);
        left = sim::Energy(0);
        return nth;
      }
      for (const SeedOutcome& one : finish(child, recipe.seed, branched)) write_all(out, encode(one));
      ::alarm(remaining);
    }
    return 0;
  };
  const sim::RunHooks plain = hooks;
  if (energy > 0) hooks.branch = fork_here;
  auto result = sim::run_kv(recipe, hooks);
  if (result) {
    outcome.result = std::move(*result);
  } else {
    outcome.crashed = true;
    outcome.result.summary = result.error().message;
  }
  std::fflush(stdout);
  write_all(out, encode(outcome));
  ::alarm(0);
  for (const sim::Recipe& one : postponed) write_all(out, encode(run_in_child(one, plain)));
  _exit(0);
}

}  // namespace

std::vector<SeedOutcome> run_in_children(const sim::Recipe& recipe, const sim::RunHooks& hooks, uint64_t energy,
                                         Branching branching) {
  const Child child = start_child();
  if (child.pid == 0) run_and_report(child.out, recipe, hooks, energy, branching);
  return finish(child, recipe.seed, recipe.branches);
}

SeedOutcome run_in_child(const sim::Recipe& recipe, const sim::RunHooks& hooks) {
  return run_in_children(recipe, hooks, 0, Branching::kFork).front();
}

}  // namespace mneme::cmd
