// multinomial_nll, of dense counts and of compressed rows, and its backward on CUDA.
#include "multinomial_nll/cuda_body.h"

#include <tuple>

#include "common/cuda/launch.h"
#include "common/likelihood_checks.h"

namespace fastvae {
namespace {

template <bool kAligned, class T, TargetKind kCounts>
__global__ void FASTVAE_LAUNCH_BOUNDS pieces_kernel(DeviceMultinomial arguments) {
  multinomial_pieces_body<kAligned, T, kCounts>(DeviceGrid{}, arguments);
}

template <class T>
__global__ void FASTVAE_LAUNCH_BOUNDS rows_kernel(DeviceMultinomial arguments) {
  multinomial_rows_body<T>(DeviceGrid{}, arguments);
}

template <bool kAligned, class T, TargetKind kCounts>
__global__ void FASTVAE_LAUNCH_BOUNDS backward_kernel(DeviceMultinomial arguments) {
  multinomial_backward_body<kAligned, T, kCounts>(DeviceGrid{}, arguments);
}

template <class T>
__global__ void FASTVAE_LAUNCH_BOUNDS compressed_backward_kernel(DeviceMultinomial arguments) {
  multinomial_compressed_backward_body<T>(DeviceGrid{}, arguments);
}

// Call run(aligned, kind of counts), both as types.
template <class T, class Run>
void with_counts(const DeviceMultinomial& a, Run&& run) {
  const bool aligned = rows_are_aligned<T>(a.shape.columns, {a.logits, a.grad_logits});
  if (aligned && !a.counts) return run(std::true_type{}, std::integral_constant<TargetKind, kNoTarget>{});
  with_target<T, true, true>(a.counts_storage, aligned && packs_are_aligned<T>(a.counts, size_of(a.counts_storage)), run);
}

// Counts, dense or in compressed rows; contiguous, and alive as long as the arguments that point at them.
struct Counts {
  Tensor values;
  std::optional<Tensor> row_starts, indices;
};

// The kernels themselves keep to the columns and the values whatever the indices say: the host does not wait to read them.
DeviceMultinomial arguments_of(const char* where, Tensor& logits, Counts& counts, LikelihoodShape& shape) {
  DeviceMultinomial a{};
  if (counts.row_starts) {
    STD_TORCH_CHECK(is_floating(logits.scalar_type()) && (logits.dim() == 2 || logits.dim() == 3) && same_device(counts.values, logits) &&
                        same_device(*counts.row_starts, logits) && same_device(*counts.indices, logits),
                    where, ": logits must be floating [B, V] or [K, B, V], and counts on their device");
    const int64_t columns = logits.size(logits.dim() - 1), data_rows = logits.size(logits.dim() - 2);
    STD_TORCH_CHECK(counts.row_starts->numel() == data_rows + 1 && counts.indices->numel() == counts.values.numel(), where,
                    ": crow_indices must have B + 1 entries, and col_indices and values one length");
    shape = {logits.dim() == 3, columns ? logits.numel() / columns : 0, data_rows, columns};
    counts.row_starts = as_contiguous(torch::stable::to(*counts.row_starts, ScalarType::Long));
    counts.indices = as_contiguous(torch::stable::to(*counts.indices, ScalarType::Long));
    a.row_starts = static_cast<const int64_t*>(pointer(counts.row_starts));
    a.indices = static_cast<const int64_t*>(pointer(counts.indices));
    a.nonzeros = counts.indices->numel();
  } else {
    shape = check_output(where, logits, counts.values);
  }
  STD_TORCH_CHECK(shape.columns > 0, where, ": counts must have shape [B, V], V at least 1");  // without elements counts have no address
  a.counts_storage = storage_of(where, "counts", counts.values, logits, kByte);
  logits = as_contiguous(logits);
  counts.values = as_contiguous(counts.values);
  (counts.row_starts ? a.values : a.counts) = pointer(counts.values);
  a.logits = pointer(logits);
  a.data_rows = shape.data_rows;
  return a;
}

std::tuple<Tensor, Tensor, Tensor> forward(const char* where, Tensor logits, Counts counts) {
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  LikelihoodShape shape;
  DeviceMultinomial a = arguments_of(where, logits, counts, shape);
  Tensor nll = empty_rows(logits, shape), logsumexp = empty_rows(logits, shape), total = empty_rows(logits, shape);
  if (shape.rows == 0) return {nll, logsumexp, total};
  a.nll = pointer(nll);
  a.logsumexp = pointer(logsumexp);
  a.total = pointer(total);
  with_storage(logits, [&](auto storage) {
    using T = decltype(storage);
    const cudaStream_t queue = current_stream(logits);
    a.shape = share_rows<T>(shape.rows, shape.columns);
    Tensor pieces = empty_on(logits, {shape.rows, a.shape.segments, 4}, sum_type(logits.scalar_type()));
    a.pieces = pointer(pieces);
    with_counts<T>(a, [&](auto aligned, auto kind) {
      pieces_kernel<decltype(aligned)::value, T, decltype(kind)::value><<<blocks_of(a.shape), kThreadsPerBlock, 0, queue>>>(a);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    });
    rows_kernel<T><<<blocks_for(shape.rows * kWarp), kThreadsPerBlock, 0, queue>>>(a);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {nll, logsumexp, total};
}

Tensor backward(const char* where, Tensor grad_nll, Tensor logits, Counts counts, Tensor logsumexp, Tensor total) {
  const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  LikelihoodShape shape;
  DeviceMultinomial a = arguments_of(where, logits, counts, shape);
  for (Tensor* x : {&grad_nll, &logsumexp, &total}) {
    check_grad_rows(where, *x, logits, shape);
    *x = as_contiguous(*x);
  }
  Tensor grad_logits = empty_contiguous_like(logits);
  if (shape.rows * shape.columns == 0) return grad_logits;
  a.grad_nll = pointer(grad_nll);
  a.logsumexp = pointer(logsumexp);
  a.total = pointer(total);
  a.grad_logits = pointer(grad_logits);
  with_storage(logits, [&](auto storage) {
    using T = decltype(storage);
    const cudaStream_t queue = current_stream(logits);
    a.shape = share_rows<T>(shape.rows, shape.columns);
    with_counts<T>(a, [&](auto aligned, auto kind) {
      backward_kernel<decltype(aligned)::value, T, decltype(kind)::value><<<blocks_of(a.shape), kThreadsPerBlock, 0, queue>>>(a);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    });
    if (a.counts || a.nonzeros == 0) return;
    compressed_backward_kernel<T><<<blocks_for(shape.rows * kWarp), kThreadsPerBlock, 0, queue>>>(a);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return grad_logits;
}

std::tuple<Tensor, Tensor, Tensor> multinomial_nll(Tensor logits, Tensor counts) {
  return forward("multinomial_nll", logits, {counts, std::nullopt, std::nullopt});
}

Tensor multinomial_nll_backward(Tensor grad_nll, Tensor logits, Tensor counts, Tensor logsumexp, Tensor total) {
  return backward("multinomial_nll_backward", grad_nll, logits, {counts, std::nullopt, std::nullopt}, logsumexp, total);
}

std::tuple<Tensor, Tensor, Tensor> multinomial_nll_csr(Tensor logits, Tensor crow_indices, Tensor col_indices, Tensor values) {
  return forward("multinomial_nll_csr", logits, {values, crow_indices, col_indices});
}

Tensor multinomial_nll_csr_backward(Tensor grad_nll, Tensor logits, Tensor crow_indices, Tensor col_indices, Tensor values,
                                    Tensor logsumexp, Tensor total) {
  return backward("multinomial_nll_csr_backward", grad_nll, logits, {values, crow_indices, col_indices}, logsumexp, total);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CUDA, m) {
  m.impl("multinomial_nll", TORCH_BOX(&multinomial_nll));
  m.impl("multinomial_nll_backward", TORCH_BOX(&multinomial_nll_backward));
  m.impl("multinomial_nll_csr", TORCH_BOX(&multinomial_nll_csr));
  m.impl("multinomial_nll_csr_backward", TORCH_BOX(&multinomial_nll_csr_backward));
}

}  // namespace fastvae
