use std::path::Path;

use heliograph_core::id::PeerId;

use super::*;

fn around(variables: &[(&str, &str)]) -> Surroundings {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Surroundings { variables: variables.iter().map(pair).collect(), user: 1000 }
}

fn flags(server: Option<&str>, key: Option<&str>) -> Flags {
    Flags { server: server.map(str::to_owned), key: key.map(Secret::new), ..Flags::default() }
}

/// The credential with its kind in front.
fn shown(credential: &Credential) -> String {
    match credential {
        Credential::ApiKey(key) => format!("key {}", key.expose()),
        Credential::DeviceToken(token) => format!("device {}", token.expose()),
    }
}

fn refused(flags: Flags, variables: &[(&str, &str)], expect: &[&str]) {
    let said = Config::load(flags, &around(variables)).expect_err("should be refused").to_string();
    for text in expect {
        assert!(said.contains(text), "no {text:?} in {said}");
    }
    assert!(!said.contains("hunter2") && !said.contains('\n'), "{said}");
}

const SERVER: (&str, &str) = ("HELIOGRAPH_SERVER", "https://h.example/");
const KEY: (&str, &str) = ("HELIOGRAPH_KEY", "ak_h");
const ORIGINAL: [(&str, &str); 3] =
    [("SIGNALING_URL", "wss://o/sig"), ("TOKEN_URL", "https://o/tok"), ("API_KEY", "ak_o")];

#[test]
fn flags_come_before_our_variables_and_those_before_the_originals() {
    let check = |flags, variables: &[&[(&str, &str)]], expect: [&str; 4]| {
        let config = Config::load(flags, &around(&variables.concat())).unwrap();
        let found =
            [&config.socket_url, &config.token_url, &shown(&config.credential), &config.credential_source];
        assert_eq!(found.map(String::as_str), expect);
    };
    let (none, ours, all) = (Flags::default, [SERVER, KEY], [&[SERVER, KEY][..], &ORIGINAL[..]]);
    let local =
        ["ws://localhost:8080/ws", "http://localhost:8080/api/token", "key ak_dev_001", "the default"];
    let of_h = ["wss://h.example/ws", "https://h.example/api/token", "key ak_h", "HELIOGRAPH_KEY"];

    check(none(), &[], local);
    check(none(), &[&[("API_KEY", ""), ("SIGNALING_URL", ""), ("HELIOGRAPH_KEY", "")]], local);
    check(none(), &[&ORIGINAL], ["wss://o/sig", "https://o/tok", "key ak_o", "API_KEY"]);
    check(
        none(),
        &[&ORIGINAL[..1], &ORIGINAL[2..]],
        ["wss://o/sig", "http://localhost:8080/api/token", "key ak_o", "API_KEY"],
    );
    check(none(), &[&ours], of_h);
    check(none(), &all, of_h);
    check(none(), &[&[SERVER], &ORIGINAL], [of_h[0], of_h[1], "key ak_o", "API_KEY"]);
    check(none(), &[&[KEY], &ORIGINAL], ["wss://o/sig", "https://o/tok", "key ak_h", "HELIOGRAPH_KEY"]);
    check(flags(None, Some("ak_f")), &all, [of_h[0], of_h[1], "key ak_f", "--key"]);
    check(
        flags(Some("http://f:1"), Some(" dt_f\n")),
        &all,
        ["ws://f:1/ws", "http://f:1/api/token", "device dt_f", "--key"],
    );
}

#[test]
fn credentials_come_from_files_and_from_what_a_pairing_left() {
    let home = tempfile::tempdir().unwrap();
    let home_is = ("HOME", home.path().to_str().unwrap());
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let load =
        |flags, variables: &[(&str, &str)]| Config::load(flags, &around(&[&[home_is], variables].concat()));
    let credential = |flags, variables: &[(&str, &str)]| shown(&load(flags, variables).unwrap().credential);
    let key_file = |path: &Path| Flags { key_file: Some(path.into()), ..Flags::default() };
    let token_file = |path: &Path| Flags { device_token_file: Some(path.into()), ..Flags::default() };

    let (key, token) = (write("key", "ak_filed\n"), write("token", "dt_filed"));
    assert_eq!(credential(key_file(&key), &[]), "key ak_filed");
    assert_eq!(
        credential(Flags::default(), &[("HELIOGRAPH_KEY_FILE", key.to_str().unwrap())]),
        "key ak_filed"
    );
    assert_eq!(credential(token_file(&token), &[KEY]), "device dt_filed");
    refused(token_file(&key), &[], &["holds no device token"]);
    refused(key_file(&home.path().join("nowhere")), &[], &["--key-file: cannot read", "nowhere"]);
    refused(key_file(&write("two", "hunter2 hunter2")), &[], &["holds no key"]);
    refused(key_file(&write("half", "{\"hunter2\"")), &[], &["half: it is not JSON"]);
    refused(Flags::default(), &[KEY, ("HELIOGRAPH_KEY_FILE", "x")], &["are both set"]);

    // What a pairing left counts where nobody names a key, at its own server.
    let server = ServerUrl::parse("", "https://mine").unwrap();
    let kept = Kept { server, peer_id: "p".into(), device_token: Secret::new("dt_kept") };
    let path = home.path().join(".local/state/heliograph/agent.token");
    kept.write(&path).unwrap();
    let config = load(Flags::default(), &[]).unwrap();
    assert_eq!(
        (config.socket_url.as_str(), shown(&config.credential).as_str()),
        ("wss://mine/ws", "device dt_kept")
    );
    assert_eq!(credential(Flags::default(), &[("HELIOGRAPH_SERVER", "https://mine/")]), "device dt_kept");
    assert_eq!(credential(Flags::default(), &[("API_KEY", "ak_o")]), "key ak_o");
    // It is shown to no other server, unless its file is named.
    refused(
        Flags::default(),
        &[home_is, SERVER],
        &["agent.token", "a token of https://mine", "https://h.example"],
    );
    assert_eq!(credential(token_file(&path), &[SERVER]), "device dt_kept");
    assert_eq!(load(token_file(&path), &[]).unwrap().token_url, "https://mine/api/token");
}

#[test]
fn wrong_values_are_told_in_a_line() {
    let check = |variable: (&str, &str), expect: &[&str]| refused(Flags::default(), &[variable, KEY], expect);
    refused(flags(Some("h:8080"), None), &[], &["--server is not an address", "http://127.0.0.1:8080"]);
    refused(flags(Some("http://h"), None), &[], &["there is no credential", "HELIOGRAPH_KEY", "agent join"]);
    refused(flags(None, Some("ak hunter2")), &[], &["--key holds no key"]);
    check(("HELIOGRAPH_SERVER", "ws://me:hunter2@h"), &["HELIOGRAPH_SERVER is not an address"]);
    check(("SIGNALING_URL", "http://h/ws"), &["SIGNALING_URL", "ws:// or wss://"]);
    check(("TOKEN_URL", "https://u:hunter2@h"), &["TOKEN_URL", "a name or password"]);
    check(("ICE_TRANSPORT_POLICY", "relays"), &["ICE_TRANSPORT_POLICY \"relays\"", "relay or all"]);
    check(("TURN_URL", "turn:h:3478"), &["without an account", "TURN_SECRET", "TURN_PASSWORD"]);
    check(("TURN_URL", "turn:me:hunter2@h"), &["TURN_URL is not the URL", "turn:turn.example:3478"]);
    check(("IPC_SOCKET", "\u{fffd}"), &["IPC_SOCKET: the value is not UTF-8"]);
}

#[test]
fn the_socket_is_private_unless_somebody_says_where_it_is() {
    let check = |flag: Option<&str>, variables: &[(&str, &str)], expect: &str| {
        assert_eq!(around(variables).socket(flag.map(PathBuf::from)).unwrap(), PathBuf::from(expect));
    };
    check(None, &[], "/tmp/heliograph-1000/agent.sock");
    check(None, &[("TMPDIR", "/var/t")], "/var/t/heliograph-1000/agent.sock");
    check(None, &[("TMPDIR", "/var/t"), ("XDG_RUNTIME_DIR", "/run/u")], "/run/u/heliograph/agent.sock");
    check(None, &[("XDG_RUNTIME_DIR", "/run/u"), ("IPC_SOCKET", "/tmp/o.sock")], "/tmp/o.sock");
    check(Some("f.sock"), &[("IPC_SOCKET", "/tmp/o.sock")], "f.sock");
}

#[test]
fn turn_servers_of_the_originals_variables_replace_those_of_the_service() {
    let load = |variables: &[(&str, &str)]| Config::load(Flags::default(), &around(variables)).unwrap();
    let servers = |config: &Config| match &config.ice {
        IceSource::Own(own) => {
            let servers = own.servers(&PeerId::parse("p").unwrap(), 1000).into_iter();
            let shown = |s: heliograph_client::IceServer| {
                let credential = s.credential.map(|secret| secret.expose().to_owned());
                (s.urls.join(" "), s.username.unwrap_or_default(), credential.unwrap_or_default())
            };
            (servers.map(shown).collect::<Vec<_>>(), own.renew_after())
        }
        IceSource::Service => panic!("should be its own"),
    };
    let (url, urls) = (("TURN_URL", "turn:t:1"), ("TURN_URL", "turn:t:1, turns:t:2,turn:t:1?transport=tcp"));
    let text =
        |list: [(&str, &str, &str); 2]| list.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));

    assert!(matches!(load(&[]).ice, IceSource::Service) && !load(&[]).relay_only);
    let config = load(&[urls, ("TURN_USERNAME", "u"), ("TURN_PASSWORD", "hunter2")]);
    let all = "turn:t:1 turns:t:2 turn:t:1?transport=tcp";
    assert_eq!(servers(&config), (text([("stun:t:1", "", ""), (all, "u", "hunter2")]).to_vec(), None));
    assert!(!format!("{config:?}").contains("hunter2"));

    // A day, as with the original; the HMAC as `openssl dgst -sha1 -hmac hunter2` has it.
    let config =
        load(&[url, ("TURN_SECRET", "hunter2"), ("TURN_USERNAME", "u"), ("ICE_TRANSPORT_POLICY", "relay")]);
    let made = ("turn:t:1", "87400:p", "+EqRGnmx9SJF4SBWJI+jOXFH4E0=");
    assert_eq!(
        servers(&config),
        (text([("stun:t:1", "", ""), made]).to_vec(), Some(std::time::Duration::from_hours(12)))
    );
    assert!(config.relay_only && !format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_device_runs_with_its_own_token_whatever_else_is_set() {
    let kept = Kept {
        server: ServerUrl::parse("", "https://mine").unwrap(),
        peer_id: "p".into(),
        device_token: Secret::new("dt_kept"),
    };
    let config = Config::of_device(kept, Some("s".into()), true, &around(&[SERVER, KEY])).unwrap();
    assert_eq!(
        (config.token_url.as_str(), shown(&config.credential).as_str()),
        ("https://mine/api/token", "device dt_kept")
    );
    assert!(config.relay_only && config.bridge_socket == Path::new("s"));
}
