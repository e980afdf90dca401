//! A router's octets: its messages, and the UPDATEs in them as the last OPENs say.
use benocs_wire::bgp::{self, Agreed};
use benocs_wire::bmp::{self, HEADER_OCTETS, Message, View};

const VIEWS: [View; 5] = [View::AdjInPre, View::AdjInPost, View::AdjOutPre, View::AdjOutPost, View::LocRib];

pub fn run(data: &[u8]) {
    let mut stream = data;
    let mut agreed = [const { None::<Agreed> }; VIEWS.len()];
    while let Ok(Some((raw, rest))) = bmp::frame(stream) {
        assert!(rest.len() + HEADER_OCTETS <= stream.len());
        stream = rest;
        match bmp::parse(raw) {
            Ok(Message::PeerUp(up)) => {
                for (view, agreed) in VIEWS.iter().zip(&mut agreed) {
                    *agreed = Some(up.agreed(*view, up.peer.has_two_octet_as()));
                }
            }
            Ok(Message::RouteMonitoring(peer, update)) => {
                let number = VIEWS.iter().position(|view| *view == peer.view()).unwrap_or(0);
                read(update, agreed[number].as_ref().unwrap_or(&Agreed::default()));
            }
            Ok(Message::Statistics(_, tlvs) | Message::Initiation(tlvs) | Message::RouteMirroring(_, tlvs)) => {
                assert!(tlvs.iter().count() * 4 <= raw.body.len());
                let _ = tlvs.get(0).map(bmp::text_of);
            }
            Ok(Message::Termination(tlvs)) => assert!(!bmp::termination_text(&tlvs).is_empty()),
            Ok(Message::PeerDown(down)) => assert!(!down.to_string().is_empty()),
            Ok(Message::Unknown(_)) => {}
            Err(error) => assert!(error.offset <= HEADER_OCTETS + raw.body.len()),
        }
    }
}

fn read(update: &[u8], agreed: &Agreed) {
    let Ok(Some((raw, _))) = bgp::frame(update, agreed) else { return };
    if let Ok(bgp::Message::Update(update)) = bgp::parse(raw, agreed) {
        let announced = update.announcements().flat_map(|(_, nlri)| nlri).count();
        assert!(announced <= raw.body.len());
    }
}
