// The CUDA kernels' bodies on an emulated grid, for tests/csrc/test_emulated_grid.py (through ctypes). Pointers are to host memory.
#include "emulated_grid.h"

#include <algorithm>

#include "gaussian_rsample_kl/cuda_body.h"
#include "gaussian_rsample_kl_full/cuda_body.h"
#include "gaussian_rsample_log_ratio/cuda_body.h"
#include "multinomial_nll/cuda_body.h"
#include "philox/cuda_body.h"

namespace {

enum Dtype { kFloat32, kFloat64, kBFloat16, kFloat16 };

template <class Run>
int with_storage(int dtype, const Run& run) {
  try {
    if (dtype == kFloat32) run(float{});
    if (dtype == kFloat64) run(double{});
    if (dtype == kBFloat16) run(fastvae::BFloat16{});
    if (dtype == kFloat16) run(fastvae::Float16{});
  } catch (const std::exception&) {
    return 1;
  }
  return 0;
}

// Run body(grid) as a kernel of the given size.
template <class Body>
void launch(int blocks, const Body& body) {
  emulated::launch(blocks, fastvae::kThreadsPerBlock, body);
}

// The host's half of add_segments and add_blocks in csrc/common/cuda/launch.h.
template <class Real>
void sum_segments(int blocks, const std::vector<Real>& partial, int64_t rows, int64_t segments, void* out) {
  launch(blocks, [&](const emulated::Grid& grid) {
    fastvae::add_segments_body(grid, partial.data(), rows, segments, fastvae::log2_of_segments(segments), static_cast<Real*>(out));
  });
}

template <class Real>
void sum_blocks(int grid_blocks, std::vector<Real> partial, int64_t columns, void* out) {
  for (int64_t blocks = columns ? static_cast<int64_t>(partial.size()) / columns : 0; blocks > 0;) {
    const int64_t groups = fastvae::groups_of(blocks);
    std::vector<Real> sums(groups * columns);
    launch(grid_blocks, [&](const emulated::Grid& grid) { fastvae::add_blocks_body(grid, partial.data(), blocks, columns, sums.data()); });
    partial = sums;
    blocks = groups == 1 ? 0 : groups;
  }
  std::copy(partial.begin(), partial.end(), static_cast<Real*>(out));
}

template <bool kAligned, class T, fastvae::TargetKind kTarget, template <class, class> class Formula>
void run_likelihood_of(int blocks, fastvae::DeviceLikelihood a, int64_t rows, int64_t columns, void* nll, void* grad_parameter) {
  using Real = typename fastvae::Compute<T>::Real;
  a.shape = fastvae::share_rows<T>(rows, columns);
  if (!a.grad_nll) {
    std::vector<Real> partial(rows * a.shape.segments);
    a.sums = partial.data();
    launch(blocks, [&](const emulated::Grid& grid) { fastvae::likelihood_body<kAligned, T, kTarget, Formula>(grid, a); });
    sum_segments(blocks, partial, rows, a.shape.segments, nll);
    return;
  }
  if (a.spread != fastvae::kScalar && a.spread != fastvae::kPerDimension) {
    a.grad_parameter = grad_parameter;
    launch(blocks, [&](const emulated::Grid& grid) { fastvae::likelihood_backward_body<kAligned, T, kTarget, Formula>(grid, a); });
    return;
  }
  std::vector<Real> partial(fastvae::row_blocks(rows) * columns), sums(columns);
  a.grad_parameter_by_column = partial.data();
  launch(blocks, [&](const emulated::Grid& grid) { fastvae::likelihood_columns_body<kAligned, T, kTarget, Formula>(grid, a); });
  sum_blocks(blocks, partial, columns, a.spread == fastvae::kScalar ? sums.data() : grad_parameter);
  if (a.spread == fastvae::kScalar) sum_blocks(blocks, sums, 1, grad_parameter);
}

template <class T, template <class, class> class Formula>
void run_likelihood(int blocks, bool aligned, const fastvae::DeviceLikelihood& a, int64_t rows, int64_t columns, void* nll, void* grad_parameter) {
  using Math = fastvae::scalar::PackFormula<T, typename fastvae::Compute<T>::Real, Formula>;
  fastvae::with_target<T, Math::kIsShort, Math::kTakesBytes>(a.target_storage, aligned, [&](auto is_aligned, auto kind) {
    run_likelihood_of<decltype(is_aligned)::value, T, decltype(kind)::value, Formula>(blocks, a, rows, columns, nll, grad_parameter);
  });
}

}  // namespace

extern "C" {

// How much of their documented errors the approximate instructions make, -1 .. 1.
void set_emulated_error(float share) { fastvae::scalar::emulated_error = share; }

// The normals [count, 2] of pairs of words [count, 2].
int box_muller(int64_t count, const int64_t* words, float* normals) {
  for (int64_t i = 0; i < 2 * count; i += 2) {
    fastvae::scalar::box_muller_approximate(static_cast<uint32_t>(words[i]), static_cast<uint32_t>(words[i + 1]), normals[i], normals[i + 1]);
  }
  return 0;
}

// sigma, growth and excess [3, count] of log variances [count].
int log_variance(int64_t count, const float* logvar, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const fastvae::scalar::LogVariance<float> l(logvar[i]);
    out[i] = l.sigma;
    out[count + i] = l.growth;
    out[2 * count + i] = l.excess;
  }
  return 0;
}

// exp(-|x|) of float32 and of 16-bit inputs [2, count].
int exp_minus_absolute(int64_t count, const float* x, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = fastvae::scalar::exp_minus_absolute<float>(x[i]);
    out[count + i] = fastvae::scalar::exp_minus_absolute<fastvae::BFloat16>(x[i]);
  }
  return 0;
}

// Each byte as a brightness and as itself, [2, 256] of each type.
int byte_values(float* in_float, double* in_double) {
  for (int byte = 0; byte < 512; ++byte) {
    in_float[byte] = fastvae::scalar::ByteValue<float>(byte < 256)(static_cast<float>(byte % 256));
    in_double[byte] = fastvae::scalar::ByteValue<double>(byte < 256)(static_cast<double>(byte % 256));
  }
  return 0;
}

// which: 0 Bernoulli, 1 Gaussian, 2 discretized logistic. Forward where grad_nll is null, else backward.
int likelihood(int blocks, int dtype, int aligned, int which, int64_t rows, int64_t data_rows, int64_t columns, const void* output,
               int target_storage, const void* target, const uint8_t* mask, int spread, int parameter_storage, const void* parameter,
               int num_levels, void* nll, const void* grad_nll, void* grad_output, void* grad_parameter) {
  fastvae::DeviceLikelihood a{};
  a.data_rows = data_rows;
  a.output = output;
  a.target_storage = static_cast<fastvae::Storage>(target_storage);
  a.target = target;
  a.mask = mask;
  a.spread = static_cast<fastvae::Spread>(spread);
  a.parameter_storage = static_cast<fastvae::Storage>(parameter_storage);
  a.parameter = parameter;
  a.num_levels = num_levels;
  a.grad_nll = grad_nll;
  a.grad_output = grad_output;
  return with_storage(dtype, [&](auto storage) {
    using T = decltype(storage);
    const auto run = [&](auto run_of) { run_of(blocks, aligned, a, rows, columns, nll, grad_parameter); };
    if (which == 0) run(run_likelihood<T, fastvae::scalar::Bernoulli>);
    if (which == 1) run(run_likelihood<T, fastvae::scalar::Gaussian>);
    if (which == 2) run(run_likelihood<T, fastvae::scalar::DiscretizedLogistic>);
  });
}

// Dense counts where row_starts is null. Forward where grad_nll is null, else backward.
int multinomial(int blocks, int dtype, int aligned, int64_t rows, int64_t data_rows, int64_t columns, const void* logits, int counts_storage,
                const void* counts, const int64_t* row_starts, const int64_t* indices, int64_t nonzeros, void* nll, void* logsumexp,
                void* total, const void* grad_nll, void* grad_logits) {
  return with_storage(dtype, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename fastvae::Compute<T>::Real;
    const auto shape = fastvae::share_rows<T>(rows, columns);
    std::vector<Real> pieces(4 * rows * shape.segments);
    fastvae::DeviceMultinomial a{};
    a.shape = shape;
    a.data_rows = data_rows;
    a.logits = logits;
    a.counts_storage = static_cast<fastvae::Storage>(counts_storage);
    a.counts = row_starts ? nullptr : counts;
    a.row_starts = row_starts;
    a.indices = indices;
    a.values = row_starts ? counts : nullptr;
    a.nonzeros = nonzeros;
    a.pieces = pieces.data();
    a.nll = nll;
    a.logsumexp = logsumexp;
    a.total = total;
    a.grad_nll = grad_nll;
    a.grad_logits = grad_logits;
    const auto run = [&](auto is_aligned, auto kind) {
      constexpr bool kAligned = decltype(is_aligned)::value;
      constexpr fastvae::TargetKind kKind = decltype(kind)::value;
      launch(blocks, [&](const emulated::Grid& grid) {
        grad_nll ? fastvae::multinomial_backward_body<kAligned, T, kKind>(grid, a) : fastvae::multinomial_pieces_body<kAligned, T, kKind>(grid, a);
      });
    };
    if (aligned && row_starts) {
      run(std::true_type{}, std::integral_constant<fastvae::TargetKind, fastvae::kNoTarget>{});
    } else {
      fastvae::with_target<T, true, true>(a.counts_storage, aligned, run);
    }
    launch(blocks, [&](const emulated::Grid& grid) {
      if (!grad_nll) fastvae::multinomial_rows_body<T>(grid, a);
      if (grad_nll && row_starts) fastvae::multinomial_compressed_backward_body<T>(grid, a);
    });
  });
}

// Forward where log_ratio is given, else backward.
int log_ratio(int blocks, int dtype, int aligned, const int64_t* key, uint32_t stream, int64_t rows, int64_t columns, int64_t samples,
              const void* mu, const void* logvar, void* z, void* log_ratio, const void* grad_z, const void* grad_ratio, void* grad_mu,
              void* grad_logvar) {
  return with_storage(dtype, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename fastvae::Compute<T>::Real;
    const auto shape = fastvae::share_rows<T>(rows, columns);
    std::vector<Real> partial(samples * rows * shape.segments);
    const fastvae::DeviceLogRatio<T> a{{key, stream},
                                       shape,
                                       samples,
                                       static_cast<const T*>(mu),
                                       static_cast<const T*>(logvar),
                                       static_cast<T*>(z),
                                       partial.data(),
                                       static_cast<const T*>(grad_z),
                                       static_cast<const Real*>(grad_ratio),
                                       static_cast<T*>(grad_mu),
                                       static_cast<T*>(grad_logvar)};
    launch(blocks, [&](const emulated::Grid& grid) {
      if (log_ratio) {
        aligned ? fastvae::log_ratio_body<true>(grid, a) : fastvae::log_ratio_body<false>(grid, a);
      } else {
        aligned ? fastvae::log_ratio_backward_body<true>(grid, a) : fastvae::log_ratio_backward_body<false>(grid, a);
      }
    });
    if (!log_ratio) return;
    sum_segments(blocks, partial, samples * rows, shape.segments, log_ratio);
  });
}

// Forward where z is given, else backward; the pointers that a reduction does not have are null.
int full(int blocks, int dtype, int aligned, const int64_t* key, uint32_t stream, int64_t rows, int64_t columns, const void* mu,
         const void* logvar, const void* prior_mu, const void* prior_logvar, void* z, void* kl_elements, void* kl_rows, void* kl_columns,
         const void* grad_z, const void* grad_elements, const void* grad_rows, const void* grad_columns, void* grad_mu, void* grad_logvar,
         void* grad_prior_mu, void* grad_prior_logvar) {
  return with_storage(dtype, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename fastvae::Compute<T>::Real;
    const auto shape = fastvae::share_rows<T>(rows, columns);
    const int64_t row_blocks = (rows + fastvae::kDeviceRowBlock - 1) / fastvae::kDeviceRowBlock;
    std::vector<Real> by_row(rows * shape.segments), by_block(kl_columns ? row_blocks * columns : 0);
    const fastvae::DeviceFull<T> a{{key, stream},
                                   shape,
                                   static_cast<const T*>(mu),
                                   static_cast<const T*>(logvar),
                                   static_cast<const T*>(prior_mu),
                                   static_cast<const T*>(prior_logvar),
                                   static_cast<T*>(z),
                                   static_cast<Real*>(kl_elements),
                                   kl_rows ? by_row.data() : nullptr,
                                   by_block.data(),
                                   static_cast<const T*>(grad_z),
                                   static_cast<const Real*>(grad_elements),
                                   static_cast<const Real*>(grad_rows),
                                   static_cast<const Real*>(grad_columns),
                                   {static_cast<T*>(grad_mu), static_cast<T*>(grad_logvar), static_cast<T*>(grad_prior_mu),
                                    static_cast<T*>(grad_prior_logvar)}};
    launch(blocks, [&](const emulated::Grid& grid) {
      if (z) {
        aligned ? fastvae::full_body<true>(grid, a) : fastvae::full_body<false>(grid, a);
      } else {
        aligned ? fastvae::full_backward_body<true>(grid, a) : fastvae::full_backward_body<false>(grid, a);
      }
    });
    if (kl_rows) sum_segments(blocks, by_row, rows, shape.segments, kl_rows);
    if (kl_columns) {
      launch(blocks, [&](const emulated::Grid& grid) {
        aligned ? fastvae::full_columns_body<true>(grid, a) : fastvae::full_columns_body<false>(grid, a);
      });
      sum_blocks(blocks, by_block, columns, kl_columns);
    }
  });
}

// kind: 0 integers, 1 uniforms, 2 normals.
int philox(int blocks, int threads, int aligned, int kind, const int64_t* key, uint32_t stream, int64_t rows, int64_t columns, void* out) {
  const fastvae::DeviceKey device_key{key, stream};
  const auto shape = fastvae::share_rows<float>(rows, columns);
  return with_storage(kFloat32, [&](auto) {
    emulated::launch(blocks, threads, [&](const emulated::Grid& grid) {
      const auto draw = [&](auto kind_of, auto* to) {
        using Draw = decltype(kind_of);
        aligned ? fastvae::philox_body<Draw, true>(grid, device_key, shape, to) : fastvae::philox_body<Draw, false>(grid, device_key, shape, to);
      };
      if (kind == 0) draw(fastvae::DrawIntegers{}, static_cast<int64_t*>(out));
      if (kind == 1) draw(fastvae::DrawUniforms{}, static_cast<float*>(out));
      if (kind == 2) draw(fastvae::DrawNormals{}, static_cast<float*>(out));
    });
  });
}

int gaussian_rsample_kl(int blocks, int threads, int dtype, int aligned, const int64_t* key, uint32_t stream, int64_t rows,
                        int64_t columns, const void* mu, const void* logvar, void* z, void* kl) {
  return with_storage(dtype, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename fastvae::Compute<T>::Real;
    const auto shape = fastvae::share_rows<T>(rows, columns);
    std::vector<Real> partial(rows * shape.segments);
    const fastvae::GaussianForwardArguments<fastvae::Cuda<T>> arguments{
        {key, stream}, shape, static_cast<const T*>(mu), static_cast<const T*>(logvar), static_cast<T*>(z), partial.data()};
    emulated::launch(blocks, threads, [&](const emulated::Grid& grid) {
      aligned ? fastvae::gaussian_rsample_kl_body<true>(grid, arguments) : fastvae::gaussian_rsample_kl_body<false>(grid, arguments);
    });
    sum_segments(blocks, partial, rows, shape.segments, kl);
  });
}

int gaussian_rsample_kl_backward(int blocks, int threads, int dtype, int aligned, const int64_t* key, uint32_t stream, int64_t rows,
                                 int64_t columns, const void* grad_z, const void* grad_kl, const void* mu, const void* logvar,
                                 void* grad_mu, void* grad_logvar) {
  return with_storage(dtype, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename fastvae::Compute<T>::Real;
    const fastvae::GaussianBackwardArguments<fastvae::Cuda<T>> arguments{
        {key, stream},
        fastvae::share_rows<T>(rows, columns),
        static_cast<const T*>(grad_z),
        static_cast<const Real*>(grad_kl),
        static_cast<const T*>(mu),
        static_cast<const T*>(logvar),
        static_cast<T*>(grad_mu),
        static_cast<T*>(grad_logvar),
    };
    emulated::launch(blocks, threads, [&](const emulated::Grid& grid) {
      aligned ? fastvae::gaussian_rsample_kl_backward_body<true>(grid, arguments)
              : fastvae::gaussian_rsample_kl_backward_body<false>(grid, arguments);
    });
  });
}

}  // extern "C"
