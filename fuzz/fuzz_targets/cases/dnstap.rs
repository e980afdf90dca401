//! A resolver's octets: frames, the dnstap message of each, the DNS message within.
use benocs_wire::dns::{self, Resolution};
use benocs_wire::dnstap;
use benocs_wire::framestream::{self, Frame};

pub fn run(data: &[u8]) {
    let mut resolution = Resolution::default();
    let mut stream = data;
    while let Ok(Some((frame, octets))) = framestream::next(stream, 1 << 16) {
        assert!(octets > 0 && octets <= stream.len());
        match frame {
            Frame::Data(payload) => match dnstap::parse(payload) {
                Ok(tap) => message(tap.response_message, &mut resolution),
                Err(error) => assert!(error.offset <= payload.len()),
            },
            Frame::Control(control) => assert!(control.content_types().count() <= octets),
        }
        stream = &stream[octets..];
    }
    // The inner layers at once, so that they are reached without the outer ones.
    if let Err(error) = dnstap::parse(data) {
        assert!(error.offset <= data.len());
    }
    message(data, &mut resolution);
}

fn message(message: &[u8], resolution: &mut Resolution) {
    match dns::resolve(message, resolution) {
        Ok(_) => {
            let names = std::iter::once(&resolution.asked).chain(resolution.aliases.iter().map(|(name, _)| name));
            for name in names {
                assert!(name.wire().len() <= dns::NAME_OCTETS_MAX && name.wire().last() == Some(&0));
            }
        }
        Err(error) => assert!(error.offset <= message.len()),
    }
}
