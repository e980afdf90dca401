//! benocs-aggregator.
