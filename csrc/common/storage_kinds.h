// What is known only at run time of the tensors beside a decoder's output.
#pragma once

namespace fastvae {

// How a tensor beside the decoder's output is stored; kPixel is a byte that counts as value / 255.
enum Storage { kAsFloat32, kAsFloat64, kAsBFloat16, kAsFloat16, kByte, kPixel };
// What a likelihood's parameter is spread over.
enum Spread { kNone, kScalar, kPerDimension, kFull };

}  // namespace fastvae
