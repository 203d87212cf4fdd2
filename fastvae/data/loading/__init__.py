"""Loading batches from a source: order, micro-batches, prefetching, copies to a device."""
