//! benocs-snmp.
