//! benocs-bgp.
