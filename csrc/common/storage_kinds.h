// Properties, known at run time only, of the tensors that are used together with a decoder's output.
#pragma once

namespace fastvae {

// The storage type of such a tensor; kPixel is a byte with the value byte / 255.
enum Storage { kAsFloat32, kAsFloat64, kAsBFloat16, kAsFloat16, kByte, kPixel };
// The granularity of a likelihood's parameter.
enum Spread { kNone, kScalar, kPerDimension, kFull };

}  // namespace fastvae
