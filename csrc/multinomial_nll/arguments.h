// The arguments of the multinomial_nll kernels on either device: `Device` is Cpu (common/cpu/kernels.h) or Cuda<void> (common/cuda/rows.h).
#pragma once

#include <cstdint>

#include "common/storage_kinds.h"

namespace fastvae {

// Counts are dense, [data_rows, columns], or compressed rows. The CPU expands a compressed row into a buffer of its own; on CUDA separate
// kernels add the compressed rows.
template <class Device>
struct MultinomialArguments {
  typename Device::Rows shape;  // of the logits
  int64_t data_rows;            // row n of the logits uses data row n % data_rows
  const void* logits;           // [rows, columns]
  Storage counts_storage;
  const void* counts;         // dense, or null
  const int64_t* row_starts;  // compressed: [data_rows + 1]
  const int64_t* indices;     // [nonzeros]; on CUDA ascending within a row
  const void* values;         // [nonzeros], stored as counts_storage says
  int64_t nonzeros;
  void* pieces;  // CUDA: [rows, segments, 4]: a logit near the largest, sum of exponentials and dot product relative to it, sum of counts
  void* nll;     // [rows] in the type of sums, as the next three
  void* logsumexp;
  void* total;
  const void* grad_nll;  // backward only
  void* grad_logits;     // [rows, columns], backward only
};

}  // namespace fastvae
