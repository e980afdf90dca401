//! Two BIRD routers with different best paths for the same prefixes, each with itself as next hop: answers are by router,
//! and right, also while one of them withdraws a large table.

use super::*;

const ROUTES: u32 = 200_000;
/// A table of that many in the configuration would take BIRD longer to read than to withdraw.
const SAME: u32 = 500;

/// 21.0.0.0/24, 21.0.1.0/24, ...
fn large() -> String {
    (0..ROUTES).fold(String::new(), |text, n| {
        let n = n + (21 << 16);
        text + &format!("route {}.{}.{}.0/24 blackhole;", n >> 16, n >> 8 & 255, n & 255)
    })
}

fn same(asn: u32) -> String {
    let route = |n: u32| format!("route 20.0.{}.{}/31 blackhole {{ bgp_path.prepend({asn}); }};", n >> 7, n << 1 & 255);
    (0..SAME).map(route).collect()
}

#[test]
fn two_routers_answer_each_for_itself_while_one_withdraws() {
    if !installed(&[BIRD, BIRDC]) {
        return;
    }
    benocs_runtime::block_on(async {
        let (outbox, receiver) = Outbox::channel(4096);
        let config = Config {
            peer: vec![peer("r1", "127.0.0.72", LOCAL_AS), peer("r2", "127.0.0.73", LOCAL_AS)],
            ..Config::default()
        };
        let lab = Lab::start(config, vec![outbox]).await;
        let one = bird(72, lab.port, &(same(64_701) + "} protocol static bulk { ipv4; " + &large()), "", "", "");
        let one = Daemon::bird(&one);
        let more = same(64_702) + "} protocol static more { ipv4; route 22.0.0.0/24 blackhole;";
        let two = Daemon::bird(&bird(73, lab.port, &more, "", "", ""));
        lab.has("r2", (SAME + 1, 0)).await;
        lab.has("r1", (SAME + ROUTES, 0)).await;

        let check = || {
            for number in [0, 77, SAME - 1] {
                let address = format!("20.0.{}.{}", number >> 7, number << 1 & 255);
                let prefix = format!("{address}/31");
                assert_eq!(lab.line(&address, "r1"), format!("{prefix} | 64701 | 127.0.0.72 |  | router r1"));
                assert_eq!(lab.line(&address, "r2"), format!("{prefix} | 64702 | 127.0.0.73 |  | router r2"));
            }
        };
        check();
        assert_eq!(lab.line("21.0.0.1", "r1"), "21.0.0.0/24 |  | 127.0.0.72 |  | router r1");
        assert_eq!(lab.line("21.0.0.1", "r2"), "21.0.0.0/24 |  | 127.0.0.72 |  | fallback r1");

        // While it withdraws, every look-up is right, and the other's news arrive.
        one.birdc("disable bulk");
        let mut seen = 0;
        let mut news = false;
        until_or(
            || format!("withdrawn: {:?}", lab.prefixes("r1")),
            || {
                let left = lab.prefixes("r1").0;
                if left > SAME && left < SAME + ROUTES {
                    seen += 1;
                    check();
                    if !std::mem::replace(&mut news, true) {
                        two.birdc("disable more");
                    }
                }
                (left == SAME).then_some(())
            },
        )
        .await;
        assert!(seen > 0, "the withdrawal was over before a look-up");
        lab.has("r2", (SAME, 0)).await;
        check();
        assert_eq!(lab.line("21.0.0.1", "r1"), "none");

        // Whoever follows has the same.
        let mut replica = RouteTable::new();
        until("replica", || {
            while let Ok(batch) = receiver.try_recv() {
                replica.apply(&batch);
            }
            replica.publish();
            (all_routes(&lab.board.table_reader().view()) == all_routes(&replica.reader().view())).then_some(())
        })
        .await;
    });
}
