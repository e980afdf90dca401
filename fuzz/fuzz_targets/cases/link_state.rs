//! Octets of NLRI and of the attribute: the first chooses family and direction, the next two how many are NLRI.
use benocs_wire::bgp::link_state::{Fact, Object};
use benocs_wire::bgp::{self, Agreed, Message, Raw, kind};

pub fn run(data: &[u8]) {
    let Some(([bits, high, low], rest)) = data.split_first_chunk::<3>() else { return };
    let (nlri, about) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()));
    if rest.len() > 32_000 {
        return;
    }
    let safi = if bits & 1 == 0 { 71 } else { 72 };
    let mut list = vec![0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 5, 4, 0, 0, 0, 100];
    let mut attribute = |code: u8, value: &[u8]| {
        list.extend_from_slice(&[0x90, code]);
        list.extend_from_slice(&(value.len() as u16).to_be_bytes());
        list.extend_from_slice(value);
    };
    match bits & 2 {
        0 => attribute(14, &[&[0x40, 4, safi, 4, 192, 0, 2, 1, 0], nlri].concat()),
        _ => attribute(15, &[&[0x40, 4, safi], nlri].concat()),
    }
    attribute(29, about);
    let mut body = vec![0, 0];
    body.extend_from_slice(&(list.len() as u16).to_be_bytes());
    body.extend_from_slice(&list);
    let raw = Raw { kind: kind::UPDATE, body: &body };
    let update = match bgp::parse(raw, &Agreed::default()) {
        Ok(Message::Update(update)) => update,
        Ok(other) => panic!("{other:?}"),
        Err(error) => return assert!(error.error.offset <= bgp::HEADER_OCTETS + body.len()),
    };
    let mut octets = 0;
    for found in update.link_state_announcements().chain(update.link_state_withdrawals()) {
        octets += found.octets.len();
        assert!(found.tlvs.octets().len() <= found.octets.len());
        let _ = found.tlvs.map(|tlv| tlv.value.len()).sum::<usize>();
        match found.object {
            Object::Node(node) => assert!(node.igp_router_id.len() <= 16),
            Object::Prefix { prefix, .. } => assert!(prefix.len <= 128),
            _ => {}
        }
    }
    assert!(octets <= nlri.len());
    let Some(information) = update.attributes.link_state else { return };
    // What was taken is the whole of it.
    assert_eq!(information.tlvs().octets(), about);
    assert_eq!(information.facts().count(), information.tlvs().count());
    for fact in information.facts() {
        if let Fact::Capabilities(ranges) | Fact::LocalBlock(ranges) = fact {
            assert!(ranges.count() <= about.len());
        }
    }
}
