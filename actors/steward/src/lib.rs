//! benocs-steward.
