//! benocs-collector.
