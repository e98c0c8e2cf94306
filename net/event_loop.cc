#include "net/event_loop.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "core/base/check.h"
#include "net/mailbox.h"

namespace mneme::net {

class EventLoop::Signals final : public env::Completions::Source {
 public:
  Signals(std::initializer_list<int> signals, std::move_only_function<void(int)> fn) : fn_(std::move(fn)) {
    sigset_t set;
    sigemptyset(&set);
    for (int signal : signals) sigaddset(&set, signal);
    CHECK(::pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
    descriptor_ = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(descriptor_ >= 0);
  }
  ~Signals() override { ::close(descriptor_); }

  int descriptor() const { return descriptor_; }
  void ready(uint32_t) override {
    signalfd_siginfo info;
    while (::read(descriptor_, &info, sizeof info) == sizeof info) arrived_.push_back(static_cast<int>(info.ssi_signo));
  }
  void run_arrived() {
    for (int signal : arrived_) fn_(signal);
    arrived_.clear();
  }

 private:
  int descriptor_;
  std::move_only_function<void(int)> fn_;
  std::vector<int> arrived_;
};

EventLoop::EventLoop(fiber::Scheduler& scheduler)
    : scheduler_(scheduler), epoll_(::epoll_create1(EPOLL_CLOEXEC)), mailbox_(std::make_shared<Mailbox>()) {
  CHECK(epoll_ >= 0);
  epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.ptr = static_cast<Source*>(mailbox_.get())}};
  CHECK(::epoll_ctl(epoll_, EPOLL_CTL_ADD, mailbox_->descriptor(), &event) == 0);
}

EventLoop::~EventLoop() {
  mailbox_->close();
  ::close(epoll_);
}

Instant EventLoop::now() const {
  timespec time;
  // Counts while the machine is suspended, too: a leader that wakes up must know that its lease is over.
  ::clock_gettime(CLOCK_BOOTTIME, &time);
  return {int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec};
}

WallTime EventLoop::wall() const {
  timespec time;
  ::clock_gettime(CLOCK_REALTIME, &time);
  return {int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000};
}

bool EventLoop::wait() {
  do turn(true);
  while (scheduler_.ready_count() == 0);
  return true;
}

void EventLoop::poll() { turn(false); }

void EventLoop::turn(bool may_wait) {
  int count = ask_kernel(may_wait);
  // Sources only note what has come and wake fibers; what may do anything at all runs after the last of them.
  for (int i = 0; i < count; ++i)
    static_cast<Source*>(events_[static_cast<size_t>(i)].data.ptr)->ready(events_[static_cast<size_t>(i)].events);
  mailbox_->run_arrived();
  if (signals_) signals_->run_arrived();
  if (timers_.next() == kNever) return;
  if (Instant time = now(); timers_.next() <= time) timers_.fire_due(time);
}

int EventLoop::ask_kernel(bool may_wait) {
  int64_t wait_ns = 0;
  bool for_ever = false;
  if (may_wait) {
    Instant next = timers_.next();
    for_ever = next == kNever;
    if (!for_ever) wait_ns = std::max<int64_t>(0, (next - now()).count());
  }
  if (nanosecond_timeouts_) {
    timespec timeout{.tv_sec = wait_ns / 1'000'000'000, .tv_nsec = wait_ns % 1'000'000'000};
    int count = ::epoll_pwait2(epoll_, events_.data(), kEventsAtATime, for_ever ? nullptr : &timeout, nullptr);
    if (count >= 0) return count;
    if (errno == EINTR) return 0;
    CHECK(errno == ENOSYS || errno == EPERM);
    nanosecond_timeouts_ = false;
  }
  // Rounded up: a wait that is a little short would only be asked for again and again until the time has come.
  constexpr int64_t kLongest = 3'600'000;
  int64_t wait_ms = for_ever ? -1 : std::min(wait_ns / 1'000'000 + (wait_ns % 1'000'000 != 0), kLongest);
  int count = ::epoll_wait(epoll_, events_.data(), kEventsAtATime, static_cast<int>(wait_ms));
  CHECK(count >= 0 || errno == EINTR);
  return std::max(count, 0);
}

void EventLoop::post(std::move_only_function<void()> fn) { mailbox_->post(std::move(fn)); }

Result<void> EventLoop::watch(int descriptor, Source& source) {
  epoll_event event{.events = EPOLLIN, .data = {.ptr = &source}};
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) == 0) return {};
  return fail(ErrorCode::kIo, fmt::format("epoll_ctl: {}", std::generic_category().message(errno)));
}

void EventLoop::unwatch(int descriptor) { ::epoll_ctl(epoll_, EPOLL_CTL_DEL, descriptor, nullptr); }

Result<void> EventLoop::watch_socket(int descriptor, Source& source) {
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = &source}};
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) == 0) return {};
  return fail(ErrorCode::kIo, fmt::format("epoll_ctl: {}", std::generic_category().message(errno)));
}

void EventLoop::on_signals(std::initializer_list<int> signals, std::move_only_function<void(int)> fn) {
  CHECK(!signals_);
  signals_ = std::make_unique<Signals>(signals, std::move(fn));
  CHECK(watch(signals_->descriptor(), *signals_).has_value());
}

}  // namespace mneme::net
