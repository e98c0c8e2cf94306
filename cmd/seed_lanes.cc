#include "cmd/seed_lanes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/base/bytes.h"
#include "core/base/check.h"

namespace mneme::cmd {

namespace {

constexpr unsigned kSecondsPerSeed = 300;  // a run that takes longer hangs

void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(70);  // nobody reads any more
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

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

std::string encode(const SeedOutcome& o) {
  std::string body;
  Writer w(body);
  w.u64(o.seed);
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

bool decode(std::string_view bytes, SeedOutcome& o) {
  Reader r(bytes);
  o.seed = r.u64();
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

SeedOutcome run_in_child(const sim::Recipe& recipe, const sim::RunHooks& hooks) {
  int out[2];
  CHECK(::pipe(out) == 0);
  const int errors = ::memfd_create("stderr", MFD_CLOEXEC);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  CHECK(child >= 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(out[0]);
    ::dup2(errors, STDERR_FILENO);
    ::alarm(kSecondsPerSeed);
    SeedOutcome outcome{.seed = recipe.seed};
    auto result = sim::run_kv(recipe, hooks);
    if (result) {
      outcome.result = std::move(*result);
    } else {
      outcome.crashed = true;
      outcome.result.summary = result.error().message;
    }
    std::fflush(stdout);
    write_all(out[1], encode(outcome));
    _exit(0);
  }
  ::close(out[1]);
  const std::string frame = read_all(out[0]);
  ::close(out[0]);
  int status = 0;
  rusage usage{};
  while (::wait4(child, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  SeedOutcome outcome{.seed = recipe.seed};
  if (frame.size() < 4 || !decode(std::string_view(frame).substr(4), outcome)) {
    outcome = {.seed = recipe.seed, .crashed = true};
    outcome.result.verdict = sim::RunVerdict::kFailed;
    ::lseek(errors, 0, SEEK_SET);
    std::string said = read_all(errors);
    said.resize(std::min<size_t>(said.size(), 6000));  // what a sanitizer found comes first
    outcome.result.details = said;
    const bool check = said.find("CHECK failed") != std::string::npos;
    outcome.result.property = check ? "check" : WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "hang" : "crash";
    if (check) {
      size_t begin = said.find("CHECK failed");
      outcome.result.summary = said.substr(begin, said.find('\n', begin) - begin);
    } else if (WIFSIGNALED(status)) {
      outcome.result.summary =
          fmt::format("the process ended by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else {
      outcome.result.summary = fmt::format("the process ended with exit code {}", WEXITSTATUS(status));
    }
  }
  ::close(errors);
  outcome.cpu_us = microseconds(usage.ru_utime) + microseconds(usage.ru_stime);
  outcome.peak_rss_kib = usage.ru_maxrss;
  return outcome;
}

void lane_main(const LanePlan& plan, unsigned lane, bool second, int fd) {
  sim::RunHooks hooks;
  hooks.white_box = plan.white_box;
  hooks.black_box = plan.black_box;
  for (uint64_t seed = plan.first + lane; seed <= plan.last && seed >= plan.first; seed += plan.lanes) {
    sim::Recipe recipe = plan.recipe;
    recipe.seed = seed;
    SeedOutcome outcome = run_in_child(recipe, hooks);
    outcome.second = second;
    write_all(fd, encode(outcome));
  }
}

namespace {

struct Lane {
  pid_t pid;
  int fd;
  std::string buffer;
};

Lane start_lane(const LanePlan& plan, unsigned number, bool second) {
  int out[2];
  CHECK(::pipe2(out, O_CLOEXEC) == 0);
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::signal(SIGINT, SIG_IGN);  // the parent decides
    if (!second) {
      lane_main(plan, number, false, out[1]);
      _exit(0);
    }
    ::dup2(out[1], STDOUT_FILENO);
    ::setenv("MALLOC_PERTURB_", "165", 1);
    // The environment stands above the stack: its size displaces every frame.
    ::setenv("MNEME_DISPLACEMENT", std::string(4096 + 512 * (number + 1), 'x').c_str(), 1);
    std::vector<std::string> arguments = {"mneme",
                                          "sim-lane",
                                          std::to_string(plan.first),
                                          std::to_string(plan.last),
                                          std::to_string(plan.lanes),
                                          std::to_string(number)};
    arguments.insert(arguments.end(), plan.worker_arguments.begin(), plan.worker_arguments.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::execv("/proc/self/exe", argv.data());
    _exit(70);
  }
  ::close(out[1]);
  return {pid, out[0], {}};
}

}  // namespace

bool run_lanes(const LanePlan& plan, const std::function<bool(SeedOutcome)>& take, const std::function<bool()>& tick) {
  std::vector<Lane> lanes;
  for (unsigned i = 0; i < plan.lanes; ++i) {
    lanes.push_back(start_lane(plan, i, false));
    if (plan.verify) lanes.push_back(start_lane(plan, i, true));
  }
  bool healthy = true;
  bool wanted = true;
  size_t open = lanes.size();
  while (wanted && open > 0) {
    std::vector<pollfd> polls;
    for (const Lane& lane : lanes) polls.push_back({lane.fd, POLLIN, 0});
    ::poll(polls.data(), polls.size(), 200);
    for (size_t i = 0; i < lanes.size() && wanted; ++i) {
      Lane& lane = lanes[i];
      if (lane.fd < 0 || (polls[i].revents & (POLLIN | POLLHUP)) == 0) continue;
      char chunk[65536];
      ssize_t n = ::read(lane.fd, chunk, sizeof chunk);
      if (n < 0) continue;
      if (n == 0) {
        ::close(lane.fd);
        lane.fd = -1;
        --open;
        int status = 0;
        ::waitpid(lane.pid, &status, 0);
        lane.pid = -1;
        healthy &= WIFEXITED(status) && WEXITSTATUS(status) == 0 && lane.buffer.empty();
        continue;
      }
      lane.buffer.append(chunk, static_cast<size_t>(n));
      while (wanted && lane.buffer.size() >= 4) {
        const uint32_t size = load_le<uint32_t>(reinterpret_cast<const uint8_t*>(lane.buffer.data()));
        if (lane.buffer.size() < 4 + size_t{size}) break;
        SeedOutcome outcome;
        healthy &= decode(std::string_view(lane.buffer).substr(4, size), outcome);
        lane.buffer.erase(0, 4 + size_t{size});
        wanted = take(std::move(outcome));
      }
    }
    if (!tick()) wanted = false;
  }
  for (Lane& lane : lanes) {
    if (lane.pid < 0) continue;
    ::kill(lane.pid, SIGKILL);
    ::waitpid(lane.pid, nullptr, 0);
    ::close(lane.fd);
  }
  return healthy;
}

}  // namespace mneme::cmd
