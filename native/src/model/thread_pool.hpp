// A few threads that work in step: `run` gives every thread the same task, `wait` is the barrier inside it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace empu {

class Pool {
  public:
    static constexpr int kMost = 256;  // threads

    // Throws Error for fewer than 1 or more than `kMost`, or where the system starts no more.
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    // How many threads there are: only the caller's in a process that was forked off, where the others do not exist.
    int threads() const { return forked() ? 1 : int(workers_.size()) + 1; }
    // Calls task(thread) on the first `threads` threads, the caller being thread 0, and returns when all are done. The
    // task must not throw.
    void run(int threads, const std::function<void(int)>& task);
    // Inside a task: how many threads run it, and the barrier: returns when all of them have come here.
    int running() const { return running_; }
    void wait();
    // Time that threads of the last task were made to wait because others did not get a processor.
    std::chrono::nanoseconds stalled() const { return std::chrono::nanoseconds(stalled_.load()); }

  private:
    void end();
    bool forked() const { return getpid() != process_; }
    void work(int thread);
    uint32_t await_task(uint32_t seen);

    const pid_t process_ = getpid();
    int running_ = 1;
    const std::function<void(int)>* task_ = nullptr;
    std::atomic<int64_t> stalled_{0};
    // Counts tasks, with the number of threads that a task is for in the lowest bits: a thread that is not among them
    // may sleep through any number of tasks.
    alignas(64) std::atomic<uint32_t> started_{0};
    alignas(64) std::atomic<uint32_t> arrived_{0};
    alignas(64) std::atomic<uint32_t> phase_{0};
    std::atomic<bool> stop_{false};
    std::vector<std::thread> workers_;
};

// The part of [0, count) that thread `index` of `threads` does.
struct Share {
    int begin;
    int end;
};
inline Share share(int count, int index, int threads) {
    return {int(int64_t{count} * index / threads), int(int64_t{count} * (index + 1) / threads)};
}

}  // namespace empu
