"""From a source to the batches of a step: order, micro-batches, loading ahead, copies to a device."""
