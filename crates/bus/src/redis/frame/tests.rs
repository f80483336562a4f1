use proptest::option;
use proptest::prelude::*;

use super::*;

fn me() -> GatewayId {
    GatewayId::parse("gw-1").unwrap()
}

fn wire(sender: &str, parcel: &Parcel) -> Bytes {
    let mut to = vec![];
    encode(&mut to, &GatewayId::parse(sender).unwrap(), parcel).unwrap();
    Bytes::from(to)
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9:{} äß]{1,30}".prop_filter("reserved", |name| PeerId::parse(name).is_ok())
}

fn peer() -> impl Strategy<Value = PeerId> {
    name().prop_map(|name| PeerId::parse(&name).unwrap())
}

fn text() -> impl Strategy<Value = Box<str>> {
    ".{0,40}".prop_map(Into::into)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Offer),
        Just(Kind::Answer),
        Just(Kind::Candidate),
        text().prop_map(|name| Kind::Application(name.into()))
    ]
}

prop_compose! {
    fn signal()(
        (from, from_epoch, from_version, kind) in (peer(), any::<u64>(), any::<u64>(), kind()),
        (id, payload, receipt, accepted_unix_us) in (option::of(text()), ".{0,300}", any::<bool>(), any::<u64>()),
        trace in option::of((any::<u128>(), any::<u64>())), behind in option::of(peer()),
    ) -> RemoteSignal {
        RemoteSignal {
            from,
            from_epoch: Epoch(from_epoch),
            from_version: Version(from_version),
            kind,
            id,
            payload: payload.into(),
            receipt,
            accepted_unix_us,
            trace: trace.map(|(trace_id, span_id)| TraceContext { trace_id, span_id }),
            behind,
        }
    }
}

prop_compose! {
    fn receipt()(id in option::of(text()), target in text(), failure in option::of(prop::sample::select(&FAILURES[..])))
        -> Receipt
    {
        Receipt { id, target, failure }
    }
}

fn due() -> impl Strategy<Value = Due> {
    prop_oneof![signal().prop_map(Due::Signal), receipt().prop_map(Due::Receipt)]
}

prop_compose! {
    fn estate()(
        (bits, place, first_epoch) in (any::<u8>(), option::of(any::<u64>()), any::<u64>()),
        (next_seq, lost) in (any::<u64>(), any::<u64>()),
        written in prop::collection::vec((any::<u64>(), due()), 0..4),
        waiting in prop::collection::vec(due(), 0..4),
        unanswered in prop::collection::vec((text(), text()), 0..4),
    ) -> Estate {
        Estate {
            capabilities: Capabilities::from_bits(bits),
            place,
            first_epoch: Epoch(first_epoch),
            next_seq,
            written,
            waiting,
            unanswered: unanswered.into_iter().map(|(id, target)| Unanswered { id, target }).collect(),
            lost,
        }
    }
}

fn member() -> impl Strategy<Value = Member> {
    (peer(), any::<u64>()).prop_map(|(peer, place)| Member::new(peer, place))
}

fn parcel() -> impl Strategy<Value = Parcel> {
    let mesh = || name().prop_map(|name| SpaceName::parse(&name).unwrap());
    let epoch = || any::<u64>().prop_map(Epoch);
    let take_over = (mesh(), peer(), epoch(), name(), text(), option::of(any::<u64>()));
    prop_oneof![
        signal().prop_map(Parcel::Signal),
        signal().prop_map(Parcel::Broadcast),
        (epoch(), receipt()).prop_map(|(epoch, receipt)| Parcel::Receipt { epoch, receipt }),
        epoch().prop_map(|by| Parcel::Superseded { by }),
        member().prop_map(Parcel::Joined),
        (member(), any::<u64>()).prop_map(|(member, at)| Parcel::Left { member, at }),
        take_over.prop_map(|(mesh, peer, by, to, token, received)| {
            let to = GatewayId::parse(&to).unwrap();
            Parcel::TakeOver(TakeOver { space: mesh, peer, by, to, token, received })
        }),
        (mesh(), peer(), epoch(), option::of(estate())).prop_map(|(mesh, peer, by, estate)| {
            Parcel::HandOver(HandOver { space: mesh, peer, by, estate })
        }),
        any::<bool>().prop_map(|on| Parcel::Drain { on }),
    ]
}

proptest! {
    #[test]
    fn what_one_node_writes_the_other_reads(parcel in parcel()) {
        prop_assert_eq!(decode(&wire("gw-2", &parcel), &me()), Decoded::Parcel(parcel));
    }

    #[test]
    fn fields_of_a_later_version_are_skipped(parcel in parcel(), more in prop::collection::vec(any::<u8>(), 1..20)) {
        let mut later = wire("gw-2", &parcel).to_vec();
        later.extend(more);
        prop_assert_eq!(decode(&later.into(), &me()), Decoded::Parcel(parcel));
    }

    #[test]
    fn a_cut_frame_is_refused(parcel in parcel(), cut in any::<prop::sample::Index>()) {
        let whole = wire("gw-2", &parcel);
        let cut = whole.slice(..cut.index(whole.len()));
        prop_assert_eq!(decode(&cut, &me()), Decoded::Malformed);
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _any_answer = decode(&bytes.into(), &me());
    }

    #[test]
    fn a_damaged_frame_never_panics(parcel in parcel(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = wire("gw-2", &parcel).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _any_answer = decode(&bytes.into(), &me());
    }
}

#[test]
fn only_a_fence_comes_back_to_its_sender() {
    let fence = Parcel::Superseded { by: Epoch(7) };
    assert_eq!(decode(&wire("gw-1", &fence), &me()), Decoded::Parcel(fence));
    assert_eq!(decode(&wire("gw-1", &Parcel::Drain { on: true }), &me()), Decoded::Echo);
}

#[test]
fn news_of_scripts_are_read() {
    let member = |peer: &str| Member::new(PeerId::parse(peer).unwrap(), 12);
    let check = |frame: &'static str, expect: Option<Parcel>| {
        let expect = expect.map_or(Decoded::Malformed, Decoded::Parcel);
        assert_eq!(decode(&Bytes::from_static(frame.as_bytes()), &me()), expect, "{frame}");
    };
    check("J 12 agent-1", Some(Parcel::Joined(member("agent-1"))));
    check("J 12 Wohnzimmer Süd", Some(Parcel::Joined(member("Wohnzimmer Süd"))));
    check("L 12 34 a b", Some(Parcel::Left { member: member("a b"), at: 34 }));
    for malformed in ["J", "J 12", "J x a", "J 12 ", "L 12 a", "L 12 x a", "JJ 1 a", "J -1 a"] {
        check(malformed, None);
    }
}

#[test]
fn what_a_later_version_sends_is_known_to_be_unknown() {
    for frame in [&[2, 1, 0][..], &[1, 0, 0], &[1, 10, 0], &[0], b"P"] {
        assert_eq!(decode(&Bytes::copy_from_slice(frame), &me()), Decoded::Unknown, "{frame:?}");
    }
    assert_eq!(decode(&Bytes::new(), &me()), Decoded::Malformed);
}

#[test]
fn texts_that_no_length_can_say_are_refused() {
    let receipt = Receipt { id: None, target: "x".repeat(65_536).into(), failure: None };
    let parcel = Parcel::Receipt { epoch: Epoch(1), receipt };
    assert_eq!(encode(&mut vec![], &me(), &parcel), Err(TooLarge));
}

/// The format, byte for byte: nodes of two versions speak it to one another during every rolling update.
#[test]
fn frames_stay_as_they_are() {
    let peer = || PeerId::parse("a").unwrap();
    let mesh = || SpaceName::parse("m").unwrap();
    let signal = || RemoteSignal {
        from: peer(),
        from_epoch: Epoch(0x0102),
        from_version: Version(3),
        kind: Kind::Application("k".into()),
        id: Some("i".into()),
        payload: Bytes::from_static(b"{}"),
        receipt: true,
        accepted_unix_us: 4,
        trace: Some(TraceContext { trace_id: 5, span_id: 6 }),
        behind: None,
    };
    let receipt =
        || Receipt { id: Some("i".into()), target: "t".into(), failure: Some(Undeliverable::QueueFull) };
    let estate = Estate {
        capabilities: Capabilities::FEEDBACK,
        place: Some(1),
        first_epoch: Epoch(2),
        next_seq: 3,
        written: vec![(4, Due::Receipt(receipt()))],
        waiting: vec![],
        unanswered: vec![Unanswered { id: "i".into(), target: "t".into() }],
        lost: 5,
    };
    let check = |parcel: &Parcel, expect: &str| {
        let digits = expect.replace(' ', "").into_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let expect: Vec<u8> = digits.chunks_exact(2).map(byte).collect();
        assert_eq!(wire("g", parcel), expect, "{parcel:?}");
    };
    check(
        &Parcel::Signal(signal()),
        "01 01 0167 07 010061 0201000000000000 0300000000000000 03 01006b 010069 0400000000000000 \
         05000000000000000000000000000000 0600000000000000 02000000 7b7d",
    );
    check(
        &Parcel::Receipt { epoch: Epoch(1), receipt: receipt() },
        "01 02 0167 0100000000000000 04 010074 01 010069",
    );
    check(&Parcel::Superseded { by: Epoch(1) }, "01 03 0167 0100000000000000");
    check(&Parcel::Joined(Member::new(peer(), 1)), "01 04 0167 0100000000000000 010061");
    check(
        &Parcel::Left { member: Member::new(peer(), 1), at: 2 },
        "01 05 0167 0100000000000000 010061 0200000000000000",
    );
    let to = GatewayId::parse("h").unwrap();
    let by = Epoch(1);
    check(
        &Parcel::TakeOver(TakeOver {
            space: mesh(),
            peer: peer(),
            by,
            to,
            token: "t".into(),
            received: Some(2),
        }),
        "01 06 0167 01006d 010061 0100000000000000 010068 010074 01 0200000000000000",
    );
    check(
        &Parcel::HandOver(HandOver { space: mesh(), peer: peer(), by, estate: Some(estate) }),
        "01 07 0167 01006d 010061 0100000000000000 01 02 01 0100000000000000 0200000000000000 0300000000000000 \
         0500000000000000 01000000 11000000 0400000000000000 02 04 010074 01 010069 00000000 \
         01000000 06000000 010069 010074",
    );
    check(&Parcel::Drain { on: true }, "01 08 0167 01");
    let behind = RemoteSignal { behind: Some(peer()), id: None, trace: None, ..signal() };
    check(
        &Parcel::Broadcast(behind),
        "01 09 0167 0c 010061 0201000000000000 0300000000000000 03 01006b 0400000000000000 02000000 7b7d 010061",
    );
    let member = Member { profile: Some(Bytes::from_static(b"{}")), ..Member::new(peer(), 1) };
    check(&Parcel::Joined(member), "4a2031 2061 0a7b7d");
}
