//! A peer's octets: the first chooses what was agreed, the rest is the stream.
use benocs_wire::bgp::{self, Agreed, Family, Message};

pub fn run(data: &[u8]) {
    let Some((&bits, mut stream)) = data.split_first() else { return };
    let all =
        || vec![Family::V4_UNICAST, Family::V6_UNICAST, Family::V4_LABELLED, Family::V6_VPN, Family::V4_FLOW_SPEC];
    let agreed = Agreed {
        four_octet_as: bits & 2 != 0,
        external: bits & 4 != 0,
        extended_messages: bits & 8 != 0,
        add_path: if bits & 1 != 0 { all() } else { Vec::new() },
        multiple_labels: if bits & 16 != 0 { all() } else { Vec::new() },
    };
    while let Ok(Some((raw, rest))) = bgp::frame(stream, &agreed) {
        stream = rest;
        match bgp::parse(raw, &agreed) {
            Ok(Message::Update(update)) => {
                let announced = update.announcements().flat_map(|(_, nlri)| nlri).count();
                let withdrawn = update.withdrawals().flatten().count();
                let routes =
                    update.announcements().flat_map(|(_, nlri)| nlri.routes()).map(|route| route.labels.iter().count());
                let rules =
                    update.announcements().flat_map(|(_, nlri)| nlri.rules()).map(|rule| rule.to_string().len());
                let _ = (routes.sum::<usize>(), rules.sum::<usize>(), update.attributes.unknown_transitive().count());
                // A message in error announces nothing.
                assert!(!update.treat_as_withdraw() || announced == 0);
                assert!(announced + withdrawn <= raw.body.len());
                let _ = (update.attributes.merged_as_path(), update.attributes.iter().count(), update.end_of_rib());
            }
            Ok(Message::Notification(notification)) => {
                let _ = notification.to_string();
            }
            Ok(_) => {}
            Err(error) => assert!(error.error.offset <= bgp::HEADER_OCTETS + raw.body.len()),
        }
    }
}
