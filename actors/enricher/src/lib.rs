//! benocs-enricher.
