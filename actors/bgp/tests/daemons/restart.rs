//! A speaker that ends and begins again: what it knew names flows until its routers have sent their tables again.

use super::*;

#[test]
fn what_was_saved_answers_until_the_router_is_back() {
    if !installed(&[BIRD]) {
        return;
    }
    benocs_runtime::block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let saved = directory.path().join("routes");
        let config = Config { peer: vec![peer("r1", "127.0.0.78", LOCAL_AS)], ..Config::default() };
        let routes = "route 198.51.100.0/24 blackhole; route 203.0.113.0/24 blackhole;";
        let (v6, one) = ("route 2001:db8:100::/48 blackhole;", "route 198.51.100.0/24 blackhole;");
        let lab = Lab::start_saved(config.clone(), Vec::new(), Some(saved.clone())).await;
        let daemon = Daemon::bird(&bird(78, lab.port, routes, v6, "bgp_path.prepend(64501);", ""));
        lab.established("r1").await;
        lab.has("r1", (2, 1)).await;
        let before = lab.line("203.0.113.1", "r1");
        assert!(lab.handle.drain(LIMIT).await);
        drop(daemon);

        // Before the router is there.
        let lab = Lab::start_saved(config, Vec::new(), Some(saved.clone())).await;
        assert_eq!((lab.prefixes("r1"), lab.line("203.0.113.1", "r1")), ((2, 1), before));
        assert!(lab.lookup("203.0.113.1", Some("r1")).route.unwrap().stale);
        assert_eq!((lab.status("r1").state.as_str(), lab.status("r1").stale), ("restarting", true));

        // It has one route less than before.
        let _daemon = Daemon::bird(&bird(78, lab.port, one, v6, "bgp_path.prepend(64501);", ""));
        lab.established("r1").await;
        lab.has("r1", (1, 1)).await;
        assert!(!lab.lookup("198.51.100.1", Some("r1")).route.unwrap().stale && !lab.status("r1").stale);
        assert_eq!(lab.line("203.0.113.1", "r1"), "none");
        assert!(lab.handle.drain(LIMIT).await);
    });
}
