//! Names of metrics (name, unit, `_total` for counters) and causes of loss.
//! Every name that the product exports stands here, once.

pub const MAILBOX_BATCHES: &str = "benocs_mailbox_batches";
pub const ACTOR_MESSAGES: &str = "benocs_actor_messages_total";
pub const ACTOR_PANICS: &str = "benocs_actor_panics_total";
/// Labels: actor, cause.
pub const DROPPED: &str = "benocs_dropped_total";
pub const BUILD_INFO: &str = "benocs_build_info";

pub const COLLECTOR_DATAGRAMS: &str = "benocs_collector_datagrams_total";
pub const COLLECTOR_OCTETS: &str = "benocs_collector_octets_total";
pub const COLLECTOR_RECORDS: &str = "benocs_collector_records_total";
pub const COLLECTOR_TEMPLATES: &str = "benocs_collector_templates";
pub const COLLECTOR_EXPORTERS: &str = "benocs_collector_exporters";
/// Labels: exporter, kind (gap, reorder, restart).
pub const COLLECTOR_SEQUENCE: &str = "benocs_collector_sequence_total";
/// What was received of an exporter and is no row. Labels: exporter, cause.
pub const COLLECTOR_LOST: &str = "benocs_collector_exporter_lost_total";
/// Exporters that sent regularly and do not any more.
pub const COLLECTOR_SILENT: &str = "benocs_collector_silent_exporters";
/// Labels: exporter. 1 where silent.
pub const COLLECTOR_EXPORTER_SILENT: &str = "benocs_collector_exporter_silent";
/// Open TCP and TLS connections.
pub const COLLECTOR_SESSIONS: &str = "benocs_collector_sessions";
pub const COLLECTOR_SESSION_MESSAGES: &str = "benocs_collector_session_messages_total";
pub const COLLECTOR_SESSION_OCTETS: &str = "benocs_collector_session_octets_total";
/// Labels: to, result (sent, too_long, other_family, failed).
pub const COLLECTOR_FAN_OUT: &str = "benocs_collector_fan_out_datagrams_total";
pub const LOG_ACKNOWLEDGED: &str = "benocs_log_acknowledged_records_total";
pub const LOG_OCTETS: &str = "benocs_log_octets";
pub const LOG_SEGMENTS: &str = "benocs_log_segments";

/// Labels: peer, family.
pub const BGP_ROUTES: &str = "benocs_bgp_routes";
/// Labels: peer. 1 where established.
pub const BGP_ESTABLISHED: &str = "benocs_bgp_established";
pub const BGP_UPDATES: &str = "benocs_bgp_updates_total";
pub const BMP_MESSAGES: &str = "benocs_bmp_messages_total";
/// Routers that are connected.
pub const BMP_ROUTERS: &str = "benocs_bmp_routers";
/// Their tables.
pub const BMP_TABLES: &str = "benocs_bmp_tables";

/// Nodes of the network graph, broadcast networks among them.
pub const GRAPH_NODES: &str = "benocs_graph_nodes";
/// Directions of links that paths may use.
pub const GRAPH_LINKS: &str = "benocs_graph_links";
pub const GRAPH_PREFIXES: &str = "benocs_graph_prefixes";
/// Objects that came, went, or are said otherwise.
pub const GRAPH_CHANGES: &str = "benocs_graph_changes_total";
/// When the graph was published last.
pub const GRAPH_PUBLISHED: &str = "benocs_graph_published_timestamp_seconds";
pub const GRAPH_PUBLISH_SECONDS: &str = "benocs_graph_publish_seconds";
/// Labels: result (kept, dropped).
pub const GRAPH_TREES: &str = "benocs_graph_trees_total";

/// Labels: result.
pub const SNMP_POLLS: &str = "benocs_snmp_polls_total";
pub const SNMP_INTERFACES: &str = "benocs_snmp_interfaces";

pub const DNSTAP_FRAMES: &str = "benocs_dnstap_frames_total";
pub const DNSTAP_ANSWERS: &str = "benocs_dnstap_answers_total";
pub const DNSTAP_NAMES: &str = "benocs_dnstap_names";

pub const ENRICHER_ROWS: &str = "benocs_enricher_rows_total";
/// Batches that wait for late names.
pub const ENRICHER_WAITING: &str = "benocs_enricher_waiting_batches";
/// Octets, scaled. Labels: result (named, ambiguous, unnamed).
pub const ENRICHER_NAMED_OCTETS: &str = "benocs_enricher_named_octets_total";
/// Labels: verdict.
pub const ENRICHER_VERDICT_ROWS: &str = "benocs_enricher_verdict_rows_total";

pub const AGGREGATOR_ROWS: &str = "benocs_aggregator_rows_total";
pub const AGGREGATOR_KEYS: &str = "benocs_aggregator_keys";
/// Batches that came again after a restart.
pub const AGGREGATOR_DUPLICATE_BATCHES: &str = "benocs_aggregator_duplicate_batches_total";

/// Flow rows committed.
pub const STORE_ROWS: &str = "benocs_store_rows_total";
pub const STORE_ROLLUP_ROWS: &str = "benocs_store_rollup_rows_total";
pub const STORE_DUPLICATE_BATCHES: &str = "benocs_store_duplicate_batches_total";
pub const STORE_COMMITS: &str = "benocs_store_commits_total";
pub const STORE_FILES: &str = "benocs_store_files";
pub const STORE_OCTETS: &str = "benocs_store_octets";
/// Commits that found a mailbox full; the next one says them again.
pub const STORE_COMMITS_DEFERRED: &str = "benocs_store_commits_deferred_total";
pub const STORE_QUERY_SECONDS: &str = "benocs_store_query_seconds";

pub const WEB_REQUESTS: &str = "benocs_web_requests_total";
pub const LINK_BATCHES: &str = "benocs_link_batches_total";
/// Batches that came again after a cut, or were sent again.
pub const LINK_REPEATED: &str = "benocs_link_repeated_batches_total";
/// Labels: peer. 1 where connected.
pub const LINK_CONNECTED: &str = "benocs_link_connected";
