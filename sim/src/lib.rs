//! benocs-sim.
