use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use heliograph_auth::secret::Secret;
use heliograph_core::id::MeshName;

use super::value::{ByteSize, Ratio, Scalar};
use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn sources(environment: &[(&str, &str)]) -> Sources {
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Sources { environment, ..Sources::default() }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn dev(environment: &[(&str, &str)]) -> Config {
    Config::load(Mode::Dev, &sources(environment)).unwrap()
}

/// All problems of a configuration that has some.
fn problems(mode: Mode, sources: &Sources) -> String {
    Config::load(mode, sources).unwrap_err().to_string()
}

fn check_problem(mode: Mode, environment: &[(&str, &str)], expect: &str) {
    let text = problems(mode, &sources(environment));
    assert_eq!(text, expect);
}

#[test]
fn meshes_have_room_policies_of_their_own() {
    let mesh = |name| MeshName::parse(name).unwrap();
    let rooms = dev(&[("HELIOGRAPH_ROOMS", "off, lobby=open,factory = paired")]).session.rooms;
    assert_eq!(rooms.of(&mesh("lobby")), RoomPolicy::Open);
    assert_eq!(rooms.of(&mesh("factory")), RoomPolicy::Paired);
    assert_eq!(rooms.of(&mesh("default")), RoomPolicy::Off);
    for (text, said) in [
        ("ajar", "ajar"),
        ("off, open", "second word for all meshes"),
        ("off, a=open, a=off", "for the second time"),
        ("off, a=ajar", "ajar"),
        ("off, =open", "\"\""),
    ] {
        let told = problems(Mode::Dev, &sources(&[("HELIOGRAPH_ROOMS", text)]));
        assert!(told.contains(said), "{text}: {told}");
    }
}

#[test]
fn modes_have_their_defaults() {
    let config = dev(&[]);
    assert_eq!(config.listen.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!(config.listen.ops_listen, SocketAddr::from(([127, 0, 0, 1], 9464)));
    assert_eq!(config.session.rooms, RoomPolicies::everywhere(RoomPolicy::Open));
    assert_eq!(config.storage.sqlite_file(), Some("./heliograph-data/heliograph.db".into()));
    assert_eq!(config.ice.turn_ttl, Duration::from_mins(10));
    assert_eq!(config.limits, Limits::default());

    let environment = [("HELIOGRAPH_DATABASE_URL", "sqlite:///x.db"), ("HELIOGRAPH_SIGNING_SECRET", SECRET)];
    let config = Config::load(Mode::Serve, &sources(&environment)).unwrap();
    assert_eq!(config.listen.listen, SocketAddr::from(([0, 0, 0, 0], 8080)));
    assert_eq!(config.session.rooms, RoomPolicies::everywhere(RoomPolicy::Off));
    assert_eq!(config.storage.sqlite_file(), Some("/x.db".into()));
}

#[test]
fn a_later_source_wins_and_is_remembered() {
    let toml = file("lease_term = \"1s\"\nresume_window = \"2s\"\ndrain_window = 7\n");
    let sources = Sources {
        file: Some(toml.path().into()),
        environment: vec![
            ("HELIOGRAPH_LEASE_TERM".into(), "3s".into()),
            ("HELIOGRAPH_RESUME_WINDOW".into(), "4s".into()),
        ],
        flags: vec![Flag { name: "--set".into(), key: "lease_term".into(), value: "5s".into() }],
    };
    let inspection = inspect(Mode::Dev, &sources);
    let session = inspection.config.unwrap().session;
    let seconds = [session.lease_term, session.resume_window, session.drain_window].map(|d| d.as_secs());
    assert_eq!(seconds, [5, 4, 7]);
    let from = |key| inspection.effective.iter().find(|e| e.key == key).unwrap().provenance.clone();
    assert_eq!(from("lease_term"), Provenance::Flag("--set".into()));
    assert_eq!(from("resume_window"), Provenance::Environment("HELIOGRAPH_RESUME_WINDOW".into()));
    assert_eq!(from("drain_window"), Provenance::File { path: toml.path().into(), line: 3 });
    assert_eq!(from("turn_ttl"), Provenance::Default);
}

#[test]
fn the_originals_variables_work() {
    let config = dev(&[
        ("PORT", "3000"),
        ("SIGNALING_SECRET", "dev-secret-change-me"),
        ("TURN_URL", "turn:turn.example:3478"),
        ("TURN_SECRET", "s"),
        ("API_KEYS_FILE", "/keys.json"),
    ]);
    assert_eq!(config.listen.listen, SocketAddr::from(([0, 0, 0, 0], 3000)));
    assert_eq!(config.tokens.signing_secret.as_ref().unwrap().expose(), "dev-secret-change-me");
    assert_eq!(config.keys.api_keys_file, Some("/keys.json".into()));
    let ice = config.ice.build();
    assert_eq!(ice.turn_urls, ["turn:turn.example:3478"]);
    assert!(ice.has_turn());

    let config = dev(&[("PORT", "3000"), ("HELIOGRAPH_LISTEN", "localhost:1")]);
    assert_eq!(config.listen.listen, SocketAddr::from(([127, 0, 0, 1], 1)));
}

#[test]
fn an_empty_variable_is_not_set() {
    assert!(
        dev(&[("HELIOGRAPH_TURN_SECRET", ""), ("HELIOGRAPH_ADMIN_LISTEN", "")]).ice.turn_secret.is_none()
    );
}

#[test]
fn secrets_come_from_files() {
    let secret = file(&format!("{SECRET}\n"));
    let path = secret.path().to_str().unwrap();
    let config = dev(&[("HELIOGRAPH_SIGNING_SECRET_FILE", path)]);
    assert_eq!(config.tokens.signing_secret.unwrap().expose(), SECRET);

    let toml = file(&format!("turn_secret_file = {path:?}\n"));
    let sources = Sources { file: Some(toml.path().into()), ..Sources::default() };
    assert_eq!(Config::load(Mode::Dev, &sources).unwrap().ice.turn_secret.unwrap().expose(), SECRET);

    check_problem(
        Mode::Dev,
        &[("HELIOGRAPH_TURN_SECRET_FILE", "/nowhere/x")],
        "turn_secret (environment HELIOGRAPH_TURN_SECRET_FILE): /nowhere/x: there is no such file",
    );
    check_problem(
        Mode::Dev,
        &[("HELIOGRAPH_TURN_SECRET", "a"), ("HELIOGRAPH_TURN_SECRET_FILE", path)],
        "HELIOGRAPH_TURN_SECRET and HELIOGRAPH_TURN_SECRET_FILE are both set; keep one of them",
    );
    // Only secrets have a file.
    check_problem(
        Mode::Dev,
        &[("HELIOGRAPH_LISTEN_FILE", path)],
        "HELIOGRAPH_LISTEN_FILE (environment): there is no such setting; `heliograph config show` lists all",
    );
}

#[test]
fn unknown_names_are_told_with_the_nearest() {
    check_problem(
        Mode::Dev,
        &[("HELIOGRAPH_LEASE_TREM", "3s")],
        "HELIOGRAPH_LEASE_TREM (environment): there is no such setting; did you mean HELIOGRAPH_LEASE_TERM?",
    );
    check_problem(
        Mode::Dev,
        &[("HELIOGRAPH_BANANAS_PER_HOUR", "3")],
        "HELIOGRAPH_BANANAS_PER_HOUR (environment): there is no such setting; `heliograph config show` lists all",
    );
    let toml = file("# x\nlisten = \"127.0.0.1:1\"\nmax_message_byte = 1\n[limits]\n");
    let text = problems(Mode::Dev, &Sources { file: Some(toml.path().into()), ..Sources::default() });
    let path = toml.path().display();
    assert_eq!(
        text,
        format!(
            "limits ({path} line 4): there is no such setting; `heliograph config show` lists all\n\
             max_message_byte ({path} line 3): there is no such setting; did you mean max_message_bytes?"
        )
    );
    let flag = Flag { name: "--set".into(), key: "rom".into(), value: "x".into() };
    let text = problems(Mode::Dev, &Sources { flags: vec![flag], ..Sources::default() });
    assert_eq!(text, "rom (flag --set): there is no such setting; did you mean rooms?");
}

#[test]
fn variables_of_others_are_left_alone() {
    dev(&[
        ("PATH", "/bin"),
        ("OTEL_SERVICE_NAME", "x"),
        ("HELIOGRAPH_SERVER", "http://x"),
        ("HELIOGRAPH_KEY", "ak_x"),
        // What Kubernetes sets for services that are called heliograph and heliograph-ops.
        ("HELIOGRAPH_SERVICE_HOST", "10.0.0.1"),
        ("HELIOGRAPH_SERVICE_PORT_HTTP", "8080"),
        ("HELIOGRAPH_PORT", "tcp://10.0.0.1:8080"),
        ("HELIOGRAPH_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("HELIOGRAPH_OPS_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
    ]);
    assert!(Config::load(Mode::Dev, &sources(&[("HELIOGRAPH_PORT", "8080")])).is_err());
}

#[test]
fn all_problems_are_told_at_once() {
    let text = problems(
        Mode::Serve,
        &sources(&[
            ("HELIOGRAPH_LEASE_TERM", "soon"),
            ("HELIOGRAPH_MAX_CONNECTIONS", "0"),
            ("HELIOGRAPH_LOGG", "x"),
        ]),
    );
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "HELIOGRAPH_LOGG (environment): there is no such setting; did you mean HELIOGRAPH_LOG?",
            "lease_term (environment HELIOGRAPH_LEASE_TERM): \"soon\" is not a duration; write it like 3s, 10m or \
             500ms (a plain number is seconds)",
            "max_connections (environment HELIOGRAPH_MAX_CONNECTIONS): \"0\" would refuse everything; give more than 0",
        ]
    );
}

#[test]
fn each_mode_has_its_needs() {
    let text = problems(Mode::Serve, &sources(&[]));
    assert!(text.contains("database_url (not set): serve and migrate need a database"), "{text}");
    assert!(text.contains("signing_secret (not set): serve signs tokens"), "{text}");
    check_problem(
        Mode::Serve,
        &[("HELIOGRAPH_DATABASE_URL", "postgres://db/x"), ("HELIOGRAPH_SIGNING_SECRET", SECRET)],
        "redis_url (not set): nodes on Postgres meet through Redis; set HELIOGRAPH_REDIS_URL, or use a sqlite:// \
         database for one node",
    );
    check_problem(
        Mode::Serve,
        &[("HELIOGRAPH_DATABASE_URL", "sqlite://x"), ("SIGNALING_SECRET", "hunter2")],
        "signing_secret (environment SIGNALING_SECRET): the signing secret must have at least 32 bytes; make one \
         with `openssl rand -base64 48`",
    );
    check_problem(
        Mode::Dev,
        &[("HELIOGRAPH_DATABASE_URL", "postgres://me:hunter2@db/x")],
        "database_url (environment HELIOGRAPH_DATABASE_URL): dev keeps its data in a file; unset it, or use \
         `heliograph serve`",
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (environment, key) in [
        (&[("HELIOGRAPH_LEASE_TERM", "499ms")][..], "lease_term"),
        (&[("HELIOGRAPH_LEASE_TERM", "6m")], "lease_term"),
        (&[("HELIOGRAPH_DRAIN_WINDOW", "2h")], "drain_window"),
        (&[("HELIOGRAPH_RESUME_WINDOW", "2h")], "resume_window"),
        (&[("HELIOGRAPH_OPS_LISTEN", "127.0.0.1:8080")], "ops_listen"),
        (&[("HELIOGRAPH_ADMIN_LISTEN", "0.0.0.0:9464")], "admin_listen"),
        (&[("HELIOGRAPH_TURN_URLS", "turn:x")], "turn_urls"),
        (&[("HELIOGRAPH_TURN_TTL", "1s")], "turn_ttl"),
        (&[("HELIOGRAPH_MAX_MESSAGE_BYTES", "2MiB")], "max_message_bytes"),
        (&[("HELIOGRAPH_PING_INTERVAL", "10ms")], "ping_interval"),
        (&[("HELIOGRAPH_SIGNING_KID", "a")], "signing_kid"),
        (&[("HELIOGRAPH_SIGNING_KEY_FILES", "a=/nowhere")], "signing_key_files"),
        (&[("HELIOGRAPH_BOOTSTRAP_ADMIN_KEY", "a b")], "bootstrap_admin_key"),
        (&[("HELIOGRAPH_REDIS_URL", "redis://x")], "redis_url"),
    ] {
        let text = problems(Mode::Dev, &sources(environment));
        assert!(text.starts_with(&format!("{key} (")), "{environment:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    // Port 0 is a new one each time.
    dev(&[("HELIOGRAPH_LISTEN", "127.0.0.1:0"), ("HELIOGRAPH_OPS_LISTEN", "127.0.0.1:0")]);
}

#[test]
fn lists_are_texts_or_arrays() {
    let config = dev(&[
        ("HELIOGRAPH_ALLOWED_ORIGINS", "https://App.example:443, http://localhost:3000/ ,"),
        ("HELIOGRAPH_TRUSTED_PROXIES", "10.0.0.0/8,2001:db8::1"),
    ]);
    let origins: Vec<_> = config.listen.allowed_origins.iter().map(Origin::as_str).collect();
    assert_eq!(origins, ["https://app.example", "http://localhost:3000"]);
    assert_eq!(config.listen.trusted_proxies.len(), 2);

    let toml = file("ice_urls = [\"stun:a.example\", \"stun:b.example:3478\"]\n");
    let config =
        Config::load(Mode::Dev, &Sources { file: Some(toml.path().into()), ..Sources::default() }).unwrap();
    assert_eq!(config.ice.build().stun_urls, ["stun:a.example", "stun:b.example:3478"]);
}

#[test]
fn signing_keys_rotate() {
    // Keys of nobody, made for this test.
    let pem = |body: &str| file(&format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"));
    let one = pem("MC4CAQAwBQYDK2VwBCIEIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g");
    let two = pem("MC4CAQAwBQYDK2VwBCIEICAfHh0cGxoZGBcWFRQTEhEQDw4NDAsKCQgHBgUEAwIB");
    let files = format!("one={},two={}", one.path().display(), two.path().display());
    let key_files = ("HELIOGRAPH_SIGNING_KEY_FILES", files.as_str());
    let own = || anyhow::bail!("a key is configured");

    let ambiguous = problems(Mode::Dev, &sources(&[key_files]));
    assert!(ambiguous.starts_with("signing_kid (not set): several keys"), "{ambiguous}");

    let config = dev(&[key_files, ("HELIOGRAPH_SIGNING_KID", "two")]);
    let jwks = config.tokens.build(Mode::Dev, own).unwrap().jwks();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);

    // The old secret signs until the new keys are everywhere.
    let config = dev(&[key_files, ("HELIOGRAPH_SIGNING_SECRET", SECRET)]);
    assert!(config.tokens.build(Mode::Dev, own).is_ok());
    assert!(dev(&[]).tokens.build(Mode::Dev, || Ok(Secret::new(SECRET))).is_ok());
}

#[test]
fn no_secret_is_ever_shown() {
    const HUSH: &str = "hunter2";
    let url = format!("postgres://me:{HUSH}@db/x");
    let redis = format!("redis://:{HUSH}@cache");
    let environment = [
        ("HELIOGRAPH_SIGNING_SECRET", HUSH),
        ("HELIOGRAPH_TURN_SECRET", HUSH),
        ("HELIOGRAPH_BOOTSTRAP_ADMIN_KEY", HUSH),
        ("HELIOGRAPH_DATABASE_URL", &url),
        ("HELIOGRAPH_REDIS_URL", &redis),
    ];
    for mode in [Mode::Dev, Mode::Serve] {
        let inspection = inspect(mode, &sources(&environment));
        let shown = format!("{inspection:?} {}", inspection.config.as_ref().unwrap_err());
        assert!(!shown.contains(HUSH), "{shown}");
        assert!(shown.contains("postgres://me:•••@db/x"), "{shown}");
    }
    // Neither by what cannot be read.
    let wrong = [("HELIOGRAPH_DATABASE_URL", HUSH), ("HELIOGRAPH_REDIS_URL", HUSH)];
    assert!(!format!("{:?}", inspect(Mode::Serve, &sources(&wrong))).contains(HUSH));
    let toml = file(&format!("turn_secret = \"{HUSH}\nlisten = 3\n"));
    let broken = inspect(Mode::Dev, &Sources { file: Some(toml.path().into()), ..Sources::default() });
    let shown = format!("{broken:?}");
    assert!(shown.contains("line 1: not valid TOML") && !shown.contains(HUSH), "{shown}");
    let flag = Flag { name: "--set".into(), key: "turn_secret".into(), value: HUSH.into() };
    let text = problems(Mode::Dev, &Sources { flags: vec![flag], ..Sources::default() });
    assert!(text.contains("a command line is visible to others") && !text.contains(HUSH), "{text}");
}

#[test]
fn values_cannot_forge_lines() {
    let text = problems(Mode::Dev, &sources(&[("HELIOGRAPH_LOG_FORMAT", "x\nall is well\u{1b}[2J")]));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn missing_file_is_named() {
    let text = problems(Mode::Dev, &Sources { file: Some("/nowhere/x.toml".into()), ..Sources::default() });
    assert_eq!(text, "configuration file /nowhere/x.toml: there is no such file");
}

#[test]
fn migration_needs_a_database_only() {
    let text = MigrationConfig::load(&sources(&[])).unwrap_err().to_string();
    assert!(text.starts_with("database_url (not set)") && text.lines().count() == 1, "{text}");
    assert!(MigrationConfig::load(&sources(&[("HELIOGRAPH_DATABASE_URL", "sqlite://x")])).is_ok());
}

fn check_value<T: Scalar + PartialEq + std::fmt::Debug>(text: &str, expect: Option<T>) {
    match expect {
        Some(value) => assert_eq!(T::parse(text), Ok(value), "{text:?}"),
        None => assert!(T::parse(text).is_err(), "{text:?}"),
    }
}

#[test]
fn durations_are_read() {
    for (text, millis) in [
        ("3s", 3_000),
        ("3", 3_000),
        ("500ms", 500),
        ("1.5s", 1_500),
        ("0.3s", 300),
        ("10m", 600_000),
        ("2 h", 7_200_000),
        ("1d", 86_400_000),
        ("0", 0),
    ] {
        check_value(text, Some(Duration::from_millis(millis)));
    }
    for text in ["", "s", "3 bananas", "-1s", "1e9d", "99999d", "NaN", "inf", "3s3s"] {
        check_value::<Duration>(text, None);
    }
}

#[test]
fn sizes_are_read() {
    for (text, bytes) in [
        ("65536", 65_536),
        ("64KiB", 65_536),
        ("64k", 65_536),
        ("1 MiB", 1 << 20),
        ("1MB", 1_000_000),
        ("1_000", 1_000),
    ] {
        check_value(text, Some(ByteSize(bytes)));
    }
    for text in ["", "KiB", "1.5k", "-1", "1TiB", "99999999999999999999", "18446744073709551615k"] {
        check_value::<ByteSize>(text, None);
    }
}

#[test]
fn other_values_are_read() {
    for (text, ratio) in
        [("0", Some(0.0)), ("0.1", Some(0.1)), ("1", Some(1.0)), ("1.1", None), ("NaN", None), ("-0.1", None)]
    {
        check_value(text, ratio.map(Ratio));
    }
    for (text, flag) in [("true", Some(true)), ("Yes", Some(true)), ("0", Some(false)), ("maybe", None)] {
        check_value(text, flag);
    }
    for (text, right) in
        [("info", true), ("info,heliograph_gateway=debug", true), ("info,=,=", false), ("", false)]
    {
        assert_eq!(LogFilter::parse(text).is_ok(), right, "{text}");
    }
    for (text, right) in [
        ("https://a.b", true),
        ("https://[::1]:1", true),
        ("*", false),
        ("a.b", false),
        ("https://a.b/c", false),
        ("ftp://a", false),
    ] {
        assert_eq!(Origin::parse(text).is_ok(), right, "{text}");
    }
}

#[test]
fn ice_urls_are_those_that_browsers_take() {
    let stun = |text| ice::StunUrl::parse(text).is_ok();
    let turn = |text| ice::TurnUrl::parse(text).is_ok();
    for url in ["stun:a.example", "stun:a:3478", "stuns:1.2.3.4:1", "stun:[::1]", "stun:[2001:db8::1]:3478"] {
        assert!(stun(url), "{url}");
    }
    for url in [
        "stun://a",
        "stun:",
        "stun:a:0",
        "stun:a:70000",
        "stun:[::1",
        "stun:[::1]x",
        "stun:a?transport=udp",
        "turn:a",
        "a:1",
        "stun:a b",
    ] {
        assert!(!stun(url), "{url}");
    }
    for url in ["turn:a", "turns:a:5349?transport=tcp", "turn:a?transport=udp"] {
        assert!(turn(url), "{url}");
    }
    for url in ["turn:a?transport=sctp", "turn://a", "stun:a"] {
        assert!(!turn(url), "{url}");
    }
}

#[test]
fn zero_is_off_where_the_reference_says_so() {
    let config = dev(&[("HELIOGRAPH_MAX_MESSAGE_BYTES", "0"), ("HELIOGRAPH_MAX_MESSAGES_PER_SECOND", "0")]);
    assert!(config.limits.max_message_bytes > 1 << 30);
    assert_eq!(config.limits.max_messages_per_second, 0);
}

#[test]
fn the_default_file_is_the_default() {
    let text = reference::toml();
    let settings =
        text.lines().filter(|line| !line.starts_with("# ") && *line != "#" && !line.ends_with("= \"\""));
    let uncommented: Vec<&str> = settings.map(|line| line.trim_start_matches('#')).collect();
    let toml = file(&uncommented.join("\n"));
    let mut with_file =
        sources(&[("HELIOGRAPH_DATABASE_URL", "sqlite://x"), ("HELIOGRAPH_SIGNING_SECRET", SECRET)]);
    let plain = format!("{:?}", Config::load(Mode::Serve, &with_file).unwrap());
    with_file.file = Some(toml.path().into());
    assert_eq!(format!("{:?}", Config::load(Mode::Serve, &with_file).unwrap()), plain);
}

#[test]
fn reference_page_is_current() {
    let committed = include_str!("../../../../docs/configuration.md");
    assert!(
        committed == reference::markdown(),
        "docs/configuration.md is stale: run `cargo xtask docs` and commit it"
    );
}
