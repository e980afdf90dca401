//! A file's octets: its records, and what is in them.
use benocs_wire::bgp;
use benocs_wire::mrt::{self, HEADER_OCTETS, Header, Message};

pub fn run(data: &[u8]) {
    let mut rest = data;
    while let Some((head, body)) = rest.split_first_chunk::<HEADER_OCTETS>() {
        let header = match Header::parse(head) {
            Ok(header) => header,
            Err(error) => return assert!(error.offset < HEADER_OCTETS),
        };
        // The last record is what there is of it.
        let (body, behind) = body.split_at(header.octets.min(body.len()));
        rest = behind;
        match mrt::parse(&header, body) {
            Ok(Message::PeerIndex(index)) => assert!(index.peers().count() * 11 <= body.len()),
            Ok(Message::Rib(rib)) => {
                let mut entries = 0;
                for entry in rib.entries() {
                    entries += 1;
                    if let Err(error) = entry.route() {
                        assert!(error.error.offset <= HEADER_OCTETS + body.len());
                    }
                }
                assert!(entries * 8 <= body.len());
            }
            Ok(Message::Table(table)) => {
                if let Ok(route) = table.route() {
                    let _ = route.attributes.merged_as_path();
                }
            }
            Ok(Message::Bgp(message)) => match message.read() {
                Ok(bgp::Message::Update(update)) => {
                    let announced = update.announcements().flat_map(|(_, nlri)| nlri).count();
                    assert!(announced <= body.len());
                }
                Ok(_) => {}
                Err(error) => assert!(message.offset() + error.error.offset <= HEADER_OCTETS + body.len() + 64),
            },
            Ok(Message::State(_) | Message::Skipped) => {}
            Err(error) => assert!(error.offset <= HEADER_OCTETS + body.len()),
        }
    }
}
