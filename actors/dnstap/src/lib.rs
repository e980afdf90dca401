//! benocs-dnstap.
