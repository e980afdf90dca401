//! A file of nfdump whose blocks are not compressed; and any octets as a block of either layout and order.
use benocs_wire::nfdump::{self, BLOCK_HEADER_OCTETS, Entry, Order, Records};

pub fn run(data: &[u8]) {
    for order in [Order::Little, Order::Big] {
        block(data, order);
    }
    let header = match nfdump::file_header(data) {
        Ok(header) => header,
        Err(error) => return assert!(error.offset <= data.len()),
    };
    let mut rest = &data[header.octets..];
    while let Ok(head) = nfdump::block_header(rest, &header) {
        rest = &rest[BLOCK_HEADER_OCTETS..];
        let (body, behind) = rest.split_at(head.octets.min(rest.len()));
        block(body, header.order);
        rest = behind;
    }
}

fn block(body: &[u8], order: Order) {
    let mut map: Option<Vec<u16>> = None;
    let mut octets = 0;
    for entry in Records::new(body, order) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return assert!(error.offset <= body.len()),
        };
        octets += 4;
        assert!(octets <= body.len());
        let record = match entry {
            Entry::Flow(flow) => flow.record(),
            Entry::MappedFlow(flow) => flow.record(map.as_deref()),
            Entry::Map(extensions) => {
                map = Some(extensions.extensions().collect());
                continue;
            }
            _ => continue,
        };
        if let Err(error) = record {
            assert!(error.offset <= body.len());
        }
    }
}
