//! What is wrong with an UPDATE does what RFC 7606 says, rule by rule, and no more.

use benocs_wire::bgp::{self, Agreed, BgpError, Class, Family, Message, Update, kind};

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfb, 0xf4];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
const NLRI: &[u8] = &[24, 198, 51, 100];

fn message(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = 23 + withdrawn.len() + attributes.len() + nlri.len();
    let part = |part: &[u8]| [&(part.len() as u16).to_be_bytes(), part].concat();
    let head = [&[0xff; 16][..], &(length as u16).to_be_bytes(), &[kind::UPDATE]].concat();
    [&head[..], &part(withdrawn), &part(attributes), nlri].concat()
}

fn read(octets: Vec<u8>, agreed: &Agreed) -> Result<Update<'static>, BgpError> {
    let (raw, rest) = bgp::frame(octets.leak(), agreed)?.expect("whole");
    assert!(rest.is_empty());
    match bgp::parse(raw, agreed)? {
        Message::Update(update) => Ok(update),
        other => panic!("{other:?}"),
    }
}

fn internal() -> Agreed {
    Agreed::default()
}

fn external() -> Agreed {
    Agreed { external: true, ..Agreed::default() }
}

fn base() -> Vec<u8> {
    [ORIGIN, AS_PATH, NEXT_HOP].concat()
}

/// The mandatory attributes and these.
fn with(more: &[u8]) -> Vec<u8> {
    [&base()[..], more].concat()
}

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    [&[flags, code, value.len() as u8], value].concat()
}

fn routes(update: &Update<'_>) -> (usize, usize) {
    (update.announcements().flat_map(|(_, nlri)| nlri).count(), update.withdrawals().flatten().count())
}

/// The routes are withdrawn, for that attribute.
#[track_caller]
fn withdraws(attributes: Vec<u8>, agreed: &Agreed, code: u8) {
    let update = read(message(&[], &attributes, NLRI), agreed).expect("no reset");
    assert_eq!(
        update.faults.iter().map(|fault| (fault.class, fault.attribute)).collect::<Vec<_>>(),
        [(Class::TreatAsWithdraw, code)]
    );
    assert_eq!(routes(&update), (0, 1));
}

/// The attribute is left out, the routes stay.
#[track_caller]
fn discards(attributes: Vec<u8>, agreed: &Agreed, code: u8) -> Update<'static> {
    let update = read(message(&[], &attributes, NLRI), agreed).expect("no reset");
    assert_eq!(
        update.faults.iter().map(|fault| (fault.class, fault.attribute)).collect::<Vec<_>>(),
        [(Class::AttributeDiscard, code)]
    );
    assert_eq!(routes(&update), (1, 0));
    update
}

#[track_caller]
fn takes(attributes: Vec<u8>, agreed: &Agreed) -> Update<'static> {
    let update = read(message(&[], &attributes, NLRI), agreed).expect("no reset");
    assert_eq!(update.faults, []);
    assert_eq!(routes(&update), (1, 0));
    update
}

#[track_caller]
fn resets(octets: Vec<u8>, subcode: u8) {
    let error = read(octets, &internal()).expect_err("a reset");
    assert_eq!((error.code, error.subcode), (3, subcode), "{error}");
}

fn reach(family: Family, next_hop: &[u8], nlri: &[u8]) -> Vec<u8> {
    let [high, low] = family.afi.to_be_bytes();
    attribute(0x80, 14, &[&[high, low, family.safi, next_hop.len() as u8], next_hop, &[0], nlri].concat())
}

fn unreach(family: Family, nlri: &[u8]) -> Vec<u8> {
    let [high, low] = family.afi.to_be_bytes();
    attribute(0x80, 15, &[&[high, low, family.safi], nlri].concat())
}

#[test]
fn section_3_b_lengths_beyond_the_message_reset() {
    let head = |length: u8| [&[0xff; 16][..], &[0, length, 2]].concat();
    resets([head(23), vec![0, 0, 0, 1]].concat(), 1);
    resets([head(23), vec![0, 1, 0, 0]].concat(), 1);
}

#[test]
fn section_3_c_flags_in_conflict_withdraw() {
    withdraws([&[0x80, 1, 1, 0], AS_PATH, NEXT_HOP].concat(), &internal(), 1);
    withdraws(with(&attribute(0x40, 4, &[0, 0, 0, 1])), &internal(), 4);
    withdraws(with(&attribute(0x80, 8, &[0, 1, 0, 1])), &internal(), 8);
    // The partial bit is no conflict.
    takes(with(&attribute(0xe0, 8, &[0, 1, 0, 1])), &internal());
}

#[test]
fn section_3_d_missing_mandatory_attributes_withdraw() {
    withdraws([AS_PATH, NEXT_HOP].concat(), &internal(), 1);
    withdraws([ORIGIN, NEXT_HOP].concat(), &internal(), 2);
    withdraws([ORIGIN, AS_PATH].concat(), &internal(), 3);
    // AS4_PATH is none in AS_PATH's place.
    let old = Agreed { four_octet_as: false, ..Agreed::default() };
    let as4_path = attribute(0xc0, 17, &[2, 1, 0, 1, 0, 0]);
    withdraws([ORIGIN, NEXT_HOP, &as4_path].concat(), &old, 2);
}

#[test]
fn section_3_g_repeated_attributes() {
    let update = discards(with(ORIGIN), &internal(), 1);
    assert_eq!(update.attributes.origin, Some(0));
    // Unrecognised ones too; the first is kept.
    let twice = [attribute(0xc0, 99, &[1]), attribute(0xc0, 99, &[2])].concat();
    let update = discards(with(&twice), &internal(), 99);
    assert_eq!(update.attributes.unknown_transitive().map(|kept| kept.value[0]).collect::<Vec<_>>(), [1]);
    let reach = reach(Family::V6_UNICAST, &[1; 16], &[]);
    resets(message(&[], &[&reach[..], &reach].concat(), &[]), 1);
    let unreach = unreach(Family::V6_UNICAST, &[]);
    resets(message(&[], &[&unreach[..], &unreach].concat(), &[]), 1);
}

#[test]
fn section_3_h_of_several_errors_the_strongest_counts() {
    let both = with(&[attribute(0x40, 6, &[0]), attribute(0x80, 4, &[0])].concat());
    let update = read(message(&[], &both, NLRI), &internal()).unwrap();
    assert_eq!(update.faults.len(), 2);
    assert_eq!(routes(&update), (0, 1));
    let reset = with(&[attribute(0x80, 4, &[0]), reach(Family::V6_UNICAST, &[1; 15], &[])].concat());
    resets(message(&[], &reset, NLRI), 9);
}

#[test]
fn section_3_i_withdrawn_routes_are_checked_as_nlri() {
    resets(message(&[33, 1, 1, 1, 1, 1], &[], &[]), 10);
    resets(message(&[24, 1], &[], &[]), 10);
}

#[test]
fn section_4_attribute_lengths_withdraw() {
    withdraws(with(&[0x80, 4, 9, 0]), &internal(), 0);
    withdraws(with(&[0x80]), &internal(), 0);
    withdraws(with(&[0x90, 4, 0]), &internal(), 0);
    // A length of zero, where AS_PATH and ATOMIC_AGGREGATE alone may have it.
    for (flags, code) in [(0x80, 4), (0xc0, 8), (0x80, 9), (0x80, 10), (0xc0, 16), (0xc0, 32), (0xc0, 35)] {
        withdraws(with(&[flags, code, 0]), &internal(), code);
    }
    takes([ORIGIN, &[0x40, 2, 0], NEXT_HOP, &[0x40, 6, 0]].concat(), &internal());
}

#[test]
fn section_5_1_routes_in_any_place_are_read() {
    let v6 = [48, 0x20, 1, 0xd, 0xb8, 0, 1];
    let mixed = [ORIGIN, &reach(Family::V6_UNICAST, &[1; 16], &v6), AS_PATH, NEXT_HOP].concat();
    let update = read(message(&[], &mixed, NLRI), &internal()).unwrap();
    assert_eq!(routes(&update), (2, 0));
}

#[test]
fn section_5_2_an_error_where_no_route_is_announced_resets() {
    resets(message(&[], &with(&attribute(0x80, 4, &[0])), &[]), 1);
    resets(message(NLRI, &with(&attribute(0x80, 4, &[0])), &[]), 1);
    // Attribute discard does not.
    let update = read(message(NLRI, &with(&attribute(0x40, 6, &[0])), &[]), &internal()).unwrap();
    assert_eq!(routes(&update), (0, 1));
    // Nor do attributes without an error.
    assert_eq!(routes(&read(message(&[], &base(), &[]), &internal()).unwrap()), (0, 0));
}

#[test]
fn section_5_3_routes_that_cannot_be_told_apart_reset() {
    resets(message(&[], &base(), &[33, 1, 1, 1, 1, 1]), 10);
    resets(message(&[], &base(), &[24, 1]), 10);
    let v6 = |nlri: &[u8]| message(&[], &with(&reach(Family::V6_UNICAST, &[1; 16], nlri)), &[]);
    resets(v6(&[129]), 9);
    resets(v6(&[64, 1]), 9);
    resets(message(&[], &unreach(Family::V6_UNICAST, &[64, 1]), &[]), 9);
    // Flags of the attributes that hold routes.
    let mut wrong = reach(Family::V6_UNICAST, &[1; 16], &[0]);
    wrong[0] = 0xc0;
    resets(message(&[], &with(&wrong), &[]), 4);
}

#[test]
fn section_5_4_a_rule_of_unknown_type_withdraws_by_its_own_length() {
    let nlri = [&[3, 99, 0x81, 6][..], &[3, 3, 0x81, 17]].concat();
    let update = read(message(&[], &with(&reach(Family::V4_FLOW_SPEC, &[], &nlri)), &[]), &internal()).unwrap();
    assert_eq!(update.faults.iter().map(|fault| fault.class).collect::<Vec<_>>(), [Class::TreatAsWithdraw]);
    assert_eq!(update.withdrawals().flat_map(|nlri| nlri.rules()).count(), 2);
    assert_eq!(update.announcements().count(), 0);
}

#[test]
fn section_7_1_origin() {
    withdraws([&[0x40, 1, 1, 3], AS_PATH, NEXT_HOP].concat(), &internal(), 1);
    withdraws([&[0x40, 1, 2, 0, 0], AS_PATH, NEXT_HOP].concat(), &internal(), 1);
}

#[test]
fn section_7_2_as_path() {
    let path = |value: &[u8]| [ORIGIN, &attribute(0x40, 2, value), NEXT_HOP].concat();
    withdraws(path(&[9, 1, 0, 0, 1, 1]), &internal(), 2);
    withdraws(path(&[2, 2, 0, 0, 1, 1]), &internal(), 2);
    withdraws(path(&[2, 1, 0, 0, 1, 1, 2]), &internal(), 2);
    withdraws(path(&[2, 0]), &internal(), 2);
    // RFC 7607 2.
    withdraws(path(&[2, 1, 0, 0, 0, 0]), &internal(), 2);
    // RFC 5065 5: within the confederation, and from outside of it.
    let confederation = [3, 1, 0, 0, 0xff, 1, 2, 1, 0, 0, 0xfb, 0xf4];
    let update = takes(path(&confederation), &internal());
    assert_eq!(update.attributes.merged_as_path().len(), 2);
    withdraws(path(&confederation), &external(), 2);
}

#[test]
fn section_7_3_next_hop() {
    withdraws([ORIGIN, AS_PATH, &[0x40, 3, 5, 192, 0, 2, 1, 0]].concat(), &internal(), 3);
    withdraws([ORIGIN, AS_PATH, &[0x40, 3, 4, 0, 0, 0, 0]].concat(), &internal(), 3);
    withdraws([ORIGIN, AS_PATH, &[0x40, 3, 4, 224, 0, 0, 1]].concat(), &internal(), 3);
}

#[test]
fn section_7_4_multi_exit_disc() {
    withdraws(with(&attribute(0x80, 4, &[0; 3])), &internal(), 4);
}

#[test]
fn section_7_5_local_pref() {
    withdraws(with(&attribute(0x40, 5, &[0; 3])), &internal(), 5);
    let update = discards(with(&attribute(0x40, 5, &[0, 0, 0, 9])), &external(), 5);
    assert_eq!(update.attributes.local_pref, None);
}

#[test]
fn section_7_6_atomic_aggregate() {
    assert!(!discards(with(&attribute(0x40, 6, &[0])), &internal(), 6).attributes.atomic_aggregate);
}

#[test]
fn section_7_7_aggregator() {
    let old = Agreed { four_octet_as: false, ..Agreed::default() };
    let short = [&[0x40, 2, 4, 2, 1, 0xfb, 0xf4][..], ORIGIN, NEXT_HOP].concat();
    discards(with(&attribute(0xc0, 7, &[0, 1, 1, 1, 1, 1])), &internal(), 7);
    discards([&short[..], &attribute(0xc0, 7, &[0, 0, 0, 1, 1, 1, 1, 1])].concat(), &old, 7);
    // RFC 7607 2.
    discards(with(&attribute(0xc0, 7, &[0, 0, 0, 0, 1, 1, 1, 1])), &internal(), 7);
}

#[test]
fn section_7_8_communities() {
    withdraws(with(&attribute(0xc0, 8, &[0; 3])), &internal(), 8);
}

#[test]
fn section_7_9_originator_id() {
    withdraws(with(&attribute(0x80, 9, &[0; 3])), &internal(), 9);
    discards(with(&attribute(0x80, 9, &[1; 4])), &external(), 9);
}

#[test]
fn section_7_10_cluster_list() {
    withdraws(with(&attribute(0x80, 10, &[0; 3])), &internal(), 10);
    discards(with(&attribute(0x80, 10, &[1; 4])), &external(), 10);
}

#[test]
fn section_7_11_next_hop_of_mp_reach() {
    let family = |family: Family, next_hop: &[u8], nlri: &[u8]| {
        read(message(&[], &with(&reach(family, next_hop, nlri)), &[]), &internal())
    };
    let label = [0, 1, 1];
    let rd = [0, 0, 0xfb, 0xf4, 0, 0, 0, 1];
    let vpn = [&[112][..], &label, &rd, &[198, 51, 100]].concat();
    for length in [0usize, 3, 5, 12, 15, 17, 24, 33] {
        let error = family(Family::V6_UNICAST, &vec![1; length], &[0]).expect_err("a reset");
        assert_eq!((error.code, error.subcode), (3, 9), "{length}");
    }
    for length in [16, 32] {
        assert_eq!(routes(&family(Family::V6_UNICAST, &vec![1; length], &[0]).unwrap()).0, 1);
    }
    for length in [4, 16, 32] {
        let update = family(Family::V4_LABELLED, &vec![1; length], &[48, 0, 1, 1, 198, 51, 100]).unwrap();
        assert_eq!(update.announcements().flat_map(|(_, nlri)| nlri.routes()).count(), 1, "{length}");
    }
    for length in [12, 24, 48] {
        let update = family(Family::V4_VPN, &vec![1; length], &vpn).unwrap();
        let routes: Vec<_> = update.announcements().flat_map(|(_, nlri)| nlri.routes()).collect();
        assert_eq!(routes[0].rd, Some(rd), "{length}");
        assert_eq!(routes[0].labels.iter().collect::<Vec<_>>(), [16]);
    }
    assert!(family(Family::V4_VPN, &[1; 11], &vpn).is_err());
}

#[test]
fn section_7_11_and_7_12_other_families_are_disabled_instead() {
    let bgp_ls = Family { afi: 16_388, safi: 71 };
    for (attributes, family) in [
        (reach(Family::V4_FLOW_SPEC, &[], &[9, 1]), Family::V4_FLOW_SPEC),
        (unreach(Family::V6_FLOW_SPEC, &[9, 1]), Family::V6_FLOW_SPEC),
        (attribute(0x80, 14, &[0x40, 4, 71, 9, 1]), bgp_ls),
        (attribute(0xc0, 15, &[0x40, 4, 71]), bgp_ls),
    ] {
        let update = read(message(&[], &with(&attributes), NLRI), &internal()).unwrap();
        assert_eq!(update.disabled().collect::<Vec<_>>(), [family]);
        assert_eq!(routes(&update), (1, 0), "the other family's routes stay");
    }
    // Without a family nothing can be disabled.
    resets(message(&[], &with(&attribute(0x80, 14, &[0, 1])), NLRI), 9);
    resets(message(&[], &with(&attribute(0x80, 15, &[])), NLRI), 9);
}

#[test]
fn section_7_12_mp_unreach() {
    resets(message(&[], &unreach(Family::V4_VPN, &[88, 0x80, 0, 0, 0, 0]), &[]), 9);
    resets(message(&[], &unreach(Family::V4_LABELLED, &[23, 0x80, 0, 0]), &[]), 9);
}

#[test]
fn section_7_13_traffic_engineering() {
    withdraws(with(&attribute(0x80, 24, &[0; 35])), &internal(), 24);
    takes(with(&attribute(0x80, 24, &[0; 36])), &internal());
}

#[test]
fn section_7_14_extended_communities() {
    withdraws(with(&attribute(0xc0, 16, &[0; 7])), &internal(), 16);
}

#[test]
fn section_7_15_ipv6_extended_communities() {
    withdraws(with(&attribute(0xc0, 25, &[0; 19])), &internal(), 25);
    takes(with(&attribute(0xc0, 25, &[0; 20])), &internal());
}

#[test]
fn section_7_16_attr_set() {
    withdraws(with(&attribute(0xc0, 128, &[0; 3])), &internal(), 128);
    withdraws(with(&attribute(0xc0, 128, &[0, 0, 0, 1, 0x40, 1, 9])), &internal(), 128);
    let update = takes(with(&attribute(0xc0, 128, &[0, 0, 0, 1, 0x40, 1, 1, 0])), &internal());
    assert_eq!(update.attributes.unknown_transitive().map(|kept| kept.code).collect::<Vec<_>>(), [128]);
}

#[test]
fn rfc_6793_section_6_attributes_of_old_speakers() {
    let old = Agreed { four_octet_as: false, ..Agreed::default() };
    let short = [&[0x40, 2, 4, 2, 1, 0xfb, 0xf4][..], ORIGIN, NEXT_HOP].concat();
    let with = |more: &[u8]| [&short[..], more].concat();
    discards([&base()[..], &attribute(0xc0, 17, &[2, 1, 0, 0, 0, 1])].concat(), &internal(), 17);
    discards(with(&attribute(0xc0, 17, &[])), &old, 17);
    discards(with(&attribute(0xc0, 17, &[2, 9, 0, 0])), &old, 17);
    discards(with(&attribute(0xc0, 18, &[0; 7])), &old, 18);
    discards(with(&attribute(0xc0, 18, &[0; 8])), &old, 18);
    // Longer than AS_PATH: as if it were not there (RFC 6793 4.2.3).
    let longer = takes(with(&attribute(0xc0, 17, &[2, 2, 0, 1, 0, 0, 0, 1, 0, 1])), &old);
    assert_eq!(longer.attributes.merged_as_path()[0].1, [64_500]);
    let merged = takes(with(&attribute(0xc0, 17, &[2, 1, 0, 1, 0, 0])), &old);
    assert_eq!(merged.attributes.merged_as_path()[0].1, [65_536]);
}

#[test]
fn rfc_7311_section_3_aigp() {
    let metric = [1, 0, 11, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(takes(with(&attribute(0x80, 26, &metric)), &internal()).attributes.aigp, Some(256));
    assert_eq!(takes(with(&attribute(0x80, 26, &metric)), &external()).attributes.aigp, None);
    discards(with(&attribute(0x80, 26, &metric[..10])), &internal(), 26);
    discards(with(&attribute(0x80, 26, &[1, 0, 2])), &internal(), 26);
    discards(with(&attribute(0xc0, 26, &metric)), &internal(), 26);
}

#[test]
fn rfc_8092_section_6_large_communities() {
    withdraws(with(&attribute(0xc0, 32, &[0; 11])), &internal(), 32);
}

#[test]
fn rfc_9234_section_5_only_to_customer() {
    withdraws(with(&attribute(0xc0, 35, &[0; 3])), &internal(), 35);
    let update = takes(with(&attribute(0xc0, 35, &[0, 0, 0xfb, 0xf4])), &external());
    assert_eq!(update.attributes.only_to_customer, Some(64_500));
}

#[test]
fn rfc_8669_section_6_prefix_sid() {
    discards(with(&attribute(0xc0, 40, &[1, 0, 9, 0])), &internal(), 40);
    takes(with(&attribute(0xc0, 40, &[1, 0, 7, 0, 0, 0, 0, 0, 0, 0])), &internal());
}

#[test]
fn unknown_transitive_attributes_are_kept_and_others_forgotten() {
    let more = [attribute(0xc0, 99, &[7]), attribute(0xe0, 101, &[8]), attribute(0x80, 100, &[9])].concat();
    let update = takes(with(&more), &external());
    let kept: Vec<_> = update.attributes.unknown_transitive().map(|kept| (kept.flags.0, kept.code)).collect();
    assert_eq!(kept, [(0xc0, 99), (0xe0, 101)]);
    // RFC 4271 6.3: one that says it is well known is not.
    resets(message(&[], &with(&attribute(0x40, 99, &[0])), NLRI), 2);
}

/// Messages that broke another speaker; the marker is theirs.
#[test]
fn malformed_samples_reset_or_are_classed() {
    let root = std::env::var_os("BENOCS_SAMPLES").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples"),
        std::path::PathBuf::from,
    );
    if !root.join("INDEX.tsv").exists() {
        assert!(std::env::var_os("CI").is_none(), "no samples in {}", root.display());
        eprintln!("skipped: no samples in {}", root.display());
        return;
    }
    let mut read_of: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(root.join("bgp")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("gobgp__bad-len") || !name.ends_with(".bin") {
            continue;
        }
        let octets = std::fs::read(&path).unwrap();
        let error = bgp::frame(&octets, &internal()).expect_err("a marker that is none");
        assert_eq!((error.code, error.subcode), (1, 1), "{name}");
        // With a marker, and with a header of its own: whatever it is, no route comes out of it.
        let marked = [&[0xff; 16][..], &octets[16..]].concat();
        let length = usize::from(u16::from_be_bytes([marked[16], marked[17]]));
        let outcome = match bgp::frame(&marked, &internal()) {
            Ok(Some((raw, _))) => bgp::parse(raw, &internal()).map(|message| match message {
                Message::Update(update) => {
                    assert_eq!(routes(&update).0, 0, "{name}");
                    format!("{:?}", update.faults.iter().map(|fault| fault.class).collect::<Vec<_>>())
                }
                other => format!("{other:?}"),
            }),
            Ok(None) => Ok(format!("waits for {length}")),
            Err(error) => Err(error),
        };
        read_of.push(match outcome {
            Ok(what) => format!("{} {what}", &name[15..19]),
            Err(error) => format!("{} {}/{}", &name[15..19], error.code, error.subcode),
        });
    }
    read_of.sort();
    let expected = [
        "0008 2/1",
        "0b22 2/1",
        "147a 3/10",
        "1d1f 2/1",
        "27f1 3/10",
        "3765 3/10",
        "3dce 3/10",
        "4d4d 3/10",
        "66e6 3/10",
        "a8ec 3/10",
        "b7ed 3/10",
    ];
    assert_eq!(read_of, expected);
}
