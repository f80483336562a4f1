use super::*;

const NOW: u64 = 1_795_338_443;

#[test]
fn credential_is_the_one_that_openssl_computes() {
    // printf '1795339043:agent-001' | openssl dgst -sha1 -hmac turn-secret -binary | base64
    let server = config("turn-secret").servers_for(Some(&peer("agent-001")), NOW).remove(1);
    assert_eq!(server.urls, ["turn:turn.example:3478", "turns:turn.example:5349"]);
    assert_eq!(server.username.as_deref(), Some("1795339043:agent-001"));
    assert_eq!(server.credential.as_deref(), Some("Sr188EXSNYNLMELRxqyYKH9R0Ws="));
}

#[test]
fn secrets_of_every_length_are_keyed_as_openssl_does() {
    // A block of SHA-1 has 64 bytes; longer keys are hashed first.
    let cases = [
        (20, "4Q4EAynXywbTEMWgz+rMwQRVNec="),
        (64, "6xnb3P6cTex4W/SW1oyDmd5uEkc="),
        (65, "r8outGGoffv0E/pxbLYzrjqSNis="),
        (100, "WvVt4bNL05uoCgHgWhEwGCTiV3k="),
    ];
    for (length, expected) in cases {
        let server = config(&"k".repeat(length)).servers_for(Some(&peer("agent-001")), NOW).remove(1);
        assert_eq!(server.credential.as_deref(), Some(expected), "{length}");
    }
}

#[test]
fn stranger_gets_stun_only() {
    let servers = config("turn-secret").servers_for(None, NOW);
    let stun = IceServer { urls: vec!["stun:stun.example:3478".into()], username: None, credential: None };
    assert_eq!(servers, [stun]);
}

#[test]
fn without_urls_or_secret_there_is_no_turn() {
    let alice = peer("alice");
    let no_secret = IceConfig { turn_secret: None, ..config("x") };
    let no_urls = IceConfig { turn_urls: Vec::new(), ..config("x") };
    for config in [no_secret, no_urls] {
        assert!(!config.has_turn());
        assert_eq!(config.servers_for(Some(&alice), NOW).len(), 1);
    }
    assert_eq!(IceConfig::default().servers_for(Some(&alice), NOW), []);
}

#[test]
fn credentials_are_bound_to_peer_and_time() {
    let config = config("turn-secret");
    let of = |name: &str, now| config.servers_for(Some(&peer(name)), now).remove(1).credential;
    assert_eq!(of("alice", NOW), of("alice", NOW));
    assert_ne!(of("alice", NOW), of("bob", NOW));
    assert_ne!(of("alice", NOW), of("alice", NOW + 1));
    assert!(of("alice", u64::MAX).is_some());
}

#[test]
fn debug_shows_no_secret() {
    assert!(!format!("{:?}", config("turn-secret")).contains("turn-secret"));
}

fn config(secret: &str) -> IceConfig {
    IceConfig {
        stun_urls: vec!["stun:stun.example:3478".into()],
        turn_urls: vec!["turn:turn.example:3478".into(), "turns:turn.example:5349".into()],
        turn_secret: Some(Secret::new(secret)),
        ttl: DEFAULT_TTL,
    }
}

fn peer(name: &str) -> PeerId {
    PeerId::parse(name).unwrap()
}
