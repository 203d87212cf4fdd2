// The arguments of the likelihood kernels on either device: `Device` is Cpu (common/cpu/kernels.h) or Cuda<void> (common/cuda/rows.h).
#pragma once

#include <cstdint>

#include "common/storage_kinds.h"

namespace fastvae {

template <class Device>
struct LikelihoodArguments {
  typename Device::Rows shape;  // of the output
  int64_t data_rows;            // row n of the output uses data row n % data_rows
  const void* output;           // [rows, columns]
  Storage target_storage;
  const void* target;   // [data_rows, columns]
  const uint8_t* mask;  // [data_rows, columns], or null
  Spread spread;
  Storage parameter_storage;
  const void* parameter;
  int num_levels;
  typename Device::Partial* sums;  // forward: [rows, segments]; backward (CPU, kScalar): one for each unit; or null
  void* grad_output;               // [rows, columns], or null
  // Backward only.
  const void* grad_nll;            // [rows] in the type of sums
  void* grad_parameter;            // [rows, columns] in the parameter's type for kFull, or null
  void* grad_parameter_by_column;  // [blocks of rows, columns] in the type of sums for kPerDimension (on CUDA kScalar too), or null
  int64_t rows_per_unit;           // CPU
};

}  // namespace fastvae
