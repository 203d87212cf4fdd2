// A CUDA grid on the host: every thread of a block is a fiber, which runs until it meets others in a shuffle or at a barrier. Kernel
// bodies (csrc/<op>/cuda_body.h) run on it unchanged, so that their indexing, tails and reductions are really executed.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

namespace emulated {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = 256 * 1024;

enum class State { kReady, kAtShuffle, kAtBarrier, kDone };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  State state = State::kReady;
  uint64_t posted = 0;  // the bits this lane offers to its warp
};

class Block {
 public:
  Block(int64_t block, int64_t blocks, int threads) : block_(block), blocks_(blocks), fibers_(threads) {}

  // Run body(thread) as every thread of the block; throws where some wait for lanes that never come (divergent code around a shuffle).
  void run(const std::function<void(int)>& body) {
    body_ = &body;
    for (int t = 0; t < static_cast<int>(fibers_.size()); ++t) start(t);
    for (size_t done = 0; done < fibers_.size();) {
      bool moved = false;
      done = 0;
      for (size_t t = 0; t < fibers_.size(); ++t) {
        if (fibers_[t].state == State::kReady) {
          moved = true;
          running_ = static_cast<int>(t);
          swapcontext(&scheduler_, &fibers_[t].context);
        }
      }
      for (size_t first = 0; first < fibers_.size(); first += kWarp) moved |= release(first, first + kWarp, State::kAtShuffle);
      moved |= release(0, fibers_.size(), State::kAtBarrier);
      for (const Fiber& fiber : fibers_) done += fiber.state == State::kDone;
      if (!moved && done < fibers_.size()) throw std::runtime_error("a warp or block waits for threads that never come");
    }
  }

  int64_t index() const { return block_ * static_cast<int64_t>(fibers_.size()) + running_; }
  int64_t size() const { return blocks_ * static_cast<int64_t>(fibers_.size()); }

  void wait(State state) {
    Fiber& fiber = fibers_[running_];
    fiber.state = state;
    swapcontext(&fiber.context, &scheduler_);
  }

  template <class Real>
  Real shuffle_xor(Real value, int mask) {
    std::memcpy(&fibers_[running_].posted, &value, sizeof(value));
    wait(State::kAtShuffle);  // all lanes have posted
    const int other = running_ / kWarp * kWarp + ((running_ % kWarp) ^ mask);
    Real received;
    std::memcpy(&received, &fibers_[other].posted, sizeof(received));
    wait(State::kAtShuffle);  // all lanes have read
    return received;
  }

 private:
  static void enter(unsigned low, unsigned high) {
    Block* self = reinterpret_cast<Block*>(static_cast<uintptr_t>(low) | static_cast<uintptr_t>(high) << 32);
    (*self->body_)(self->running_);
    self->fibers_[self->running_].state = State::kDone;
    swapcontext(&self->fibers_[self->running_].context, &self->scheduler_);
  }

  void start(int thread) {
    Fiber& fiber = fibers_[thread];
    fiber.stack.reset(new char[kStackBytes]);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    const uintptr_t self = reinterpret_cast<uintptr_t>(this);
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Block::enter), 2, static_cast<unsigned>(self),
                static_cast<unsigned>(self >> 32));
  }

  // Let the fibers [first, last) go on, if all of them wait in this state.
  bool release(size_t first, size_t last, State state) {
    for (size_t t = first; t < last; ++t) {
      if (fibers_[t].state != state) return false;
    }
    for (size_t t = first; t < last; ++t) fibers_[t].state = State::kReady;
    return true;
  }

  int64_t block_, blocks_;
  std::vector<Fiber> fibers_;
  ucontext_t scheduler_;
  const std::function<void(int)>* body_ = nullptr;
  int running_ = 0;
};

// What a kernel body sees; the counterpart of fastvae::DeviceGrid.
struct Grid {
  Block* block;
  int64_t index() const { return block->index(); }
  int64_t size() const { return block->size(); }
  template <class Real>
  Real shuffle_xor(Real value, int mask) const {
    return block->shuffle_xor(value, mask);
  }
};

template <class Body>
void launch(int64_t blocks, int threads, const Body& body) {
  for (int64_t b = 0; b < blocks; ++b) {
    Block block(b, blocks, threads);
    block.run([&](int) { body(Grid{&block}); });
  }
}

}  // namespace emulated
