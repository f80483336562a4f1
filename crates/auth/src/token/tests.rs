use jsonwebtoken::EncodingKey;
use proptest::prelude::*;

use super::*;
use crate::testing::{NOW, b64, ed25519_pem, forge, p256_pem, private, rng, unsigned};

const SECRET: &str = "a secret of more than thirty-two bytes";

/// Signed for the original with its default secret, by Python's hmac.
const ORIGINAL: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZ2VudC1vbmUiLCJyb2xlIjoiYWdlbnQiLCJleHAiOjE3OTUyNTI3NDMsImlhdCI6MTc5NTI1MjQ0M30.0exrKP7uS1KFanS87CPfuyF-hIYMTLWjcQKXLhnAL6c";

#[test]
fn token_round_trips_with_every_kind_of_key() {
    for set in [set(secret(SECRET)), set(ed25519("e", 1)), set(p256("p", 1))] {
        let claims = set.verify(issue(&set).expose(), NOW).unwrap();
        assert_eq!(claims.peer.as_str(), "agent-001");
        assert_eq!(claims.role, "agent");
        assert_eq!(claims.mesh.as_str(), "home");
        assert_eq!((claims.issued_at, claims.expires_at), (NOW, NOW + 300));
        assert_eq!(claims.id.map(|id| id.len()), Some(32));
        assert_eq!(claims.version, Some(Version(41)));
    }
}

#[test]
fn token_signed_by_hand_for_the_original_is_accepted() {
    let set =
        set(SigningKey::from_secret(&Secret::new("dev-secret-change-me"), SecretRule::AllowShort).unwrap());
    let expected = Claims {
        peer: PeerId::parse("agent-one").unwrap(),
        role: "agent".into(),
        mesh: MeshName::default_mesh(),
        issued_at: 1_795_252_443,
        expires_at: 1_795_252_743,
        id: None,
        version: None,
    };
    assert_eq!(set.verify(ORIGINAL, NOW), Ok(expected));
}

#[test]
fn header_of_shared_secret_is_that_of_the_original() {
    let token = issue(&set(secret(SECRET)));
    assert!(token.expose().starts_with(ORIGINAL.split('.').next().unwrap()));
}

#[test]
fn token_expires_exactly_when_the_leeway_is_over() {
    let set = set(secret(SECRET));
    let token = issue(&set);
    let end = NOW + TOKEN_LIFE_SECONDS + TOKEN_LEEWAY_SECONDS;
    assert!(set.verify(token.expose(), end - 1).is_ok());
    assert_eq!(set.verify(token.expose(), end), Err(TokenError::Expired));
    assert_eq!(set.verify(token.expose(), u64::MAX), Err(TokenError::Expired));
}

#[test]
fn token_begins_exactly_when_the_leeway_allows() {
    let mut claims = claims();
    claims["nbf"] = json!(NOW);
    assert!(verify_claims_at(&claims, NOW - TOKEN_LEEWAY_SECONDS).is_ok());
    assert_eq!(verify_claims_at(&claims, NOW - TOKEN_LEEWAY_SECONDS - 1), Err(TokenError::NotYetValid));
}

#[test]
fn claims_of_the_original_are_required() {
    for name in ["sub", "role", "exp", "iat"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(verify_claims(&claims), Err(TokenError::MissingClaim(name)));
    }
}

#[test]
fn issuer_and_audience_must_fit_where_present() {
    check_claim("iss", json!("heliograph"), Ok(()));
    check_claim("iss", json!("somebody"), Err(TokenError::WrongIssuer));
    check_claim("aud", json!("heliograph"), Ok(()));
    check_claim("aud", json!(["other", "heliograph"]), Ok(()));
    check_claim("aud", json!("other"), Err(TokenError::WrongAudience));
    check_claim("aud", json!([]), Err(TokenError::WrongAudience));
    check_claim("aud", json!(1), Err(TokenError::Malformed));
}

#[test]
fn names_are_checked() {
    for name in ["sub", "role", "mesh"] {
        for bad in ["", "a\"b", "a\nb", "x".repeat(129).as_str()] {
            check_claim(name, json!(bad), Err(TokenError::BadName));
        }
        check_claim(name, json!(7), Err(TokenError::Malformed));
    }
}

#[test]
fn times_are_whole_numbers_of_seconds() {
    for bad in [json!(-1), json!("1795252743"), json!(1.5), json!([1])] {
        check_claim("exp", bad.clone(), Err(TokenError::Malformed));
        check_claim("iat", bad, Err(TokenError::Malformed));
    }
    check_claim("exp", json!(u64::MAX), Ok(()));
}

#[test]
fn token_of_another_secret_is_refused() {
    let other = issue(&set(secret("another secret, also more than thirty-two bytes")));
    assert_eq!(set(secret(SECRET)).verify(other.expose(), NOW), Err(TokenError::BadSignature));
    // A wrong signature is told before anything about the claims.
    assert_eq!(set(secret(SECRET)).verify(other.expose(), u64::MAX), Err(TokenError::BadSignature));
}

#[test]
fn algorithm_none_is_refused() {
    let all = KeySet::new(secret(SECRET), vec![ed25519("e", 1), p256("p", 1)]).unwrap();
    for alg in ["none", "None", "NONE", ""] {
        for header in [json!({"alg": alg}), json!({"alg": alg, "kid": "e"}), json!({"alg": alg, "kid": "p"})]
        {
            let token = unsigned(&header, &claims()) + ".";
            assert_eq!(all.verify(&token, NOW), Err(TokenError::WrongAlgorithm), "{header}");
        }
    }
}

#[test]
fn public_key_is_never_taken_for_a_secret() {
    let public = p256("p", 1).jwk().unwrap();
    let x = public["x"].as_str().unwrap().to_owned();
    let set = KeySet::new(p256("p", 1), vec![secret(SECRET)]).unwrap();
    for stolen in [x, public.to_string()] {
        let key = EncodingKey::from_secret(stolen.as_bytes());
        let named = forge(&json!({"alg": "HS256", "kid": "p"}), &claims(), &key, Algorithm::Hs256);
        assert_eq!(set.verify(&named, NOW), Err(TokenError::WrongAlgorithm));
        let unnamed = forge(&json!({"alg": "HS256"}), &claims(), &key, Algorithm::Hs256);
        assert_eq!(set.verify(&unnamed, NOW), Err(TokenError::BadSignature));
        let no_secret = KeySet::new(p256("p", 1), Vec::new()).unwrap();
        assert_eq!(no_secret.verify(&unnamed, NOW), Err(TokenError::UnknownKey));
    }
    let file = Secret::new("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----");
    assert_eq!(SigningKey::from_secret(&file, SecretRule::AllowShort).err(), Some(KeyError::SecretIsPem));
}

#[test]
fn kid_fixes_the_algorithm() {
    let set = KeySet::new(ed25519("e", 1), vec![p256("p", 1), secret(SECRET)]).unwrap();
    let edwards = private(Algorithm::EdDsa, &ed25519_pem(1));
    let cases = [
        (json!({"alg": "EdDSA", "kid": "p"}), TokenError::WrongAlgorithm),
        (json!({"alg": "ES256", "kid": "e"}), TokenError::WrongAlgorithm),
        (json!({"alg": "ES256", "kid": "p"}), TokenError::BadSignature),
        (json!({"alg": "EdDSA", "kid": "unknown"}), TokenError::UnknownKey),
        (json!({"alg": "EdDSA", "kid": ""}), TokenError::UnknownKey),
        (json!({"alg": "EdDSA", "kid": "../e"}), TokenError::UnknownKey),
        // Only shared secrets go without a name.
        (json!({"alg": "EdDSA"}), TokenError::WrongAlgorithm),
        (json!({"alg": "HS512"}), TokenError::WrongAlgorithm),
    ];
    for (header, expected) in cases {
        let token = forge(&header, &claims(), &edwards, Algorithm::EdDsa);
        assert_eq!(set.verify(&token, NOW), Err(expected), "{header}");
    }
}

#[test]
fn keys_that_the_token_brings_along_are_not_honoured() {
    let own = EncodingKey::from_secret(b"the attacker's own secret");
    let set = set(secret(SECRET));
    for (name, value) in [
        ("jwk", json!({"kty": "oct", "k": "dGhlIGF0dGFja2VyJ3Mgb3duIHNlY3JldA"})),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/cert")),
        ("x5c", json!(["AAAA"])),
    ] {
        let mut header = json!({"alg": "HS256"});
        header[name] = value;
        let token = forge(&header, &claims(), &own, Algorithm::Hs256);
        assert_eq!(set.verify(&token, NOW), Err(TokenError::BadSignature), "{name}");
    }
}

#[test]
fn extensions_that_must_be_understood_are_not() {
    let header = json!({"alg": "HS256", "crit": ["b64"], "b64": false});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = forge(&header, &claims(), &key, Algorithm::Hs256);
    assert_eq!(set(secret(SECRET)).verify(&token, NOW), Err(TokenError::Malformed));
}

#[test]
fn what_is_no_token_is_malformed() {
    let (header, body) = (b64(&json!({"alg": "HS256"})), b64(&claims()));
    let array = b64(&json!(["HS256", null, null]));
    let bad = [
        String::new(),
        "..".into(),
        "a.b".into(),
        "ak_dev_001".into(),
        format!("{header}.{body}"),
        format!("{array}.{body}.AAAA"),
        format!("{}.{body}.AAAA", b64(&json!({"typ": "JWT"}))),
        format!("{}.{body}.AAAA", b64(&json!({"alg": 1}))),
        format!("{header}=.{body}.AAAA"),
        format!("é.{body}.AAAA"),
    ];
    for token in bad {
        assert_eq!(set(secret(SECRET)).verify(&token, NOW), Err(TokenError::Malformed), "{token}");
    }
}

#[test]
fn signed_nonsense_is_malformed() {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for claims in [json!([]), json!("x"), json!(null), json!(["agent-001", "agent"])] {
        let token = forge(&json!({"alg": "HS256"}), &claims, &key, Algorithm::Hs256);
        assert_eq!(set(secret(SECRET)).verify(&token, NOW), Err(TokenError::Malformed), "{claims}");
    }
}

#[test]
fn long_token_is_not_looked_at() {
    let mut claims = claims();
    claims["padding"] = json!("x".repeat(3500));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = forge(&json!({"alg": "HS256"}), &claims, &key, Algorithm::Hs256);
    assert!(token.len() > heliograph_core::limits::MAX_CREDENTIAL_BYTES);
    assert_eq!(set(secret(SECRET)).verify(&token, NOW), Err(TokenError::Malformed));
}

#[test]
fn rotated_key_still_verifies_and_the_new_one_signs() {
    let before = set(ed25519("2026-01", 1));
    let old_token = issue(&before);
    let during = KeySet::new(p256("2026-02", 2), vec![ed25519("2026-01", 1)]).unwrap();
    assert!(during.verify(old_token.expose(), NOW).is_ok());
    let new_token = issue(&during);
    assert!(during.verify(new_token.expose(), NOW).is_ok());
    assert_eq!(before.verify(new_token.expose(), NOW), Err(TokenError::UnknownKey));
    let after = set(p256("2026-02", 2));
    assert!(after.verify(new_token.expose(), NOW).is_ok());
    assert_eq!(after.verify(old_token.expose(), NOW), Err(TokenError::UnknownKey));
}

#[test]
fn rotated_secret_still_verifies() {
    let old_token = issue(&set(secret(SECRET)));
    let new = || secret("the new secret, which has more than thirty-two bytes");
    assert!(KeySet::new(new(), vec![secret(SECRET)]).unwrap().verify(old_token.expose(), NOW).is_ok());
    assert_eq!(set(new()).verify(old_token.expose(), NOW), Err(TokenError::BadSignature));
}

#[test]
fn key_ids_are_unique_names() {
    assert_eq!(KeySet::new(ed25519("k", 1), vec![p256("k", 1)]).err(), Some(KeyError::DuplicateKeyId));
    for bad in ["", "a\"b", "a\nb"] {
        assert_eq!(SigningKey::from_pem(bad, &ed25519_pem(1)).err(), Some(KeyError::BadKeyId));
    }
}

#[test]
fn secrets_must_be_long_enough() {
    let of = |text: &str, rule| SigningKey::from_secret(&Secret::new(text), rule).err();
    assert_eq!(of(&"x".repeat(32), SecretRule::Strong), None);
    assert_eq!(of(&"x".repeat(31), SecretRule::Strong), Some(KeyError::SecretTooShort));
    assert_eq!(of("x", SecretRule::AllowShort), None);
    assert_eq!(of("", SecretRule::AllowShort), Some(KeyError::SecretEmpty));
}

#[test]
fn what_is_no_private_key_is_refused() {
    let truncated = ed25519_pem(1).replace("AQEBAQEBAQEB", "AQEB");
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAanFOyA1+mj4b5JdK7OQzP8+euG7dzEpQVJCWBZvCWTw=\n-----END PUBLIC KEY-----\n";
    let zero = p256_pem(0);
    for bad in ["", "secret", &truncated, public, &zero, &ed25519_pem(1).replace("PRIVATE", "EC PRIVATE")] {
        assert_eq!(SigningKey::from_pem("k", bad).err(), Some(KeyError::NotAKey), "{bad}");
    }
}

#[test]
fn jwks_has_the_public_keys_and_nothing_else() {
    let set = KeySet::new(ed25519("e", 1), vec![p256("p", 1), secret(SECRET)]).unwrap();
    let jwks = set.jwks();
    let members =
        |index: usize| -> Vec<String> { jwks["keys"][index].as_object().unwrap().keys().cloned().collect() };
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
    assert_eq!(members(0), ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(members(1), ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(jwks["keys"][0]["alg"], "EdDSA");
    assert_eq!(jwks["keys"][1]["kid"], "p");
    assert_eq!(self::set(secret(SECRET)).jwks(), json!({"keys": []}));
}

#[test]
fn published_key_verifies_what_was_signed() {
    for key in [ed25519("e", 7), p256("p", 7)] {
        let algorithm = key.algorithm();
        let set = set(key);
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(set.jwks()["keys"][0].clone()).unwrap();
        let public = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let token = issue(&set);
        let (message, signature) = token.expose().rsplit_once('.').unwrap();
        assert!(
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &public, algorithm.into()).unwrap()
        );
    }
}

#[test]
fn debug_shows_no_key() {
    let set = KeySet::new(secret(SECRET), vec![ed25519("e", b'Q')]).unwrap();
    let shown = format!("{set:?}");
    assert!(shown.contains("Hs256") && shown.contains("\"e\""), "{shown}");
    for hidden in ["a secret", "QQQQ", "81, 81", "97, 32, 115"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}

#[test]
fn every_token_has_its_own_id() {
    let set = set(secret(SECRET));
    let mut dice = rng(1);
    let mut issue = || set.issue(&grant(&peer(), &mesh()), NOW, &mut dice).unwrap();
    assert!(!issue().matches(issue().expose()));
}

proptest! {
    #[test]
    fn any_grant_round_trips(
        peer in "[^\\pC\"\\\\]{1,40}", role in "[a-z]{1,9}", mesh in "[^\\pC\"\\\\]{1,40}", version: u64, life in 0..305_u64,
    ) {
        let (Ok(peer), Ok(mesh)) = (PeerId::parse(&peer), MeshName::parse(&mesh)) else {
            return Err(TestCaseError::reject("too long"));
        };
        let set = set(secret(SECRET));
        let grant = Grant { peer: &peer, role: &role, mesh: &mesh, version: Version(version) };
        let token = set.issue(&grant, NOW, &mut rng(version)).unwrap();
        let claims = set.verify(token.expose(), NOW + life).unwrap();
        prop_assert_eq!((claims.peer, claims.role, claims.mesh, claims.version), (peer, role, mesh, Some(Version(version))));
    }

    #[test]
    fn a_token_with_one_character_changed_is_refused(key in 0..3_usize, place: prop::sample::Index, by in 1..64_usize) {
        const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let set = set([secret(SECRET), ed25519("e", 1), p256("p", 1)].into_iter().nth(key).unwrap());
        let mut token = issue(&set).expose().to_owned().into_bytes();
        let place = place.index(token.len());
        let value = BASE64URL.iter().position(|c| *c == token[place]);
        token[place] = BASE64URL[(value.unwrap_or(0) + by) % 64];
        prop_assert!(set.verify(std::str::from_utf8(&token).unwrap(), NOW).is_err());
    }

    #[test]
    fn no_text_is_a_token_and_no_error_tells_it(text in "[ -~]{20,80}(\\.[A-Za-z0-9_-]{1,20}){0,3}") {
        let set = KeySet::new(secret(SECRET), vec![ed25519("e", 1)]).unwrap();
        let error = set.verify(&text, NOW).unwrap_err();
        let shown = format!("{error} {error:?}");
        prop_assert!(!shown.contains(&text));
    }
}

fn check_claim(name: &str, value: Value, expected: Result<(), TokenError>) {
    let mut claims = claims();
    claims[name] = value;
    assert_eq!(verify_claims(&claims).err(), expected.err(), "{claims}");
}

fn verify_claims(claims: &Value) -> Result<Claims, TokenError> {
    verify_claims_at(claims, NOW)
}

fn verify_claims_at(claims: &Value, now: u64) -> Result<Claims, TokenError> {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = forge(&json!({"alg": "HS256"}), claims, &key, Algorithm::Hs256);
    set(secret(SECRET)).verify(&token, now)
}

fn claims() -> Value {
    json!({"sub": "agent-001", "role": "agent", "iat": NOW, "exp": NOW + 300})
}

fn issue(set: &KeySet) -> Secret {
    set.issue(&grant(&peer(), &mesh()), NOW, &mut rng(1)).unwrap()
}

fn grant<'a>(peer: &'a PeerId, mesh: &'a MeshName) -> Grant<'a> {
    Grant { peer, role: "agent", mesh, version: Version(41) }
}

fn peer() -> PeerId {
    PeerId::parse("agent-001").unwrap()
}

fn mesh() -> MeshName {
    MeshName::parse("home").unwrap()
}

fn set(key: SigningKey) -> KeySet {
    KeySet::new(key, Vec::new()).unwrap()
}

fn secret(text: &str) -> SigningKey {
    SigningKey::from_secret(&Secret::new(text), SecretRule::Strong).unwrap()
}

fn ed25519(kid: &str, number: u8) -> SigningKey {
    SigningKey::from_pem(kid, &ed25519_pem(number)).unwrap()
}

fn p256(kid: &str, number: u8) -> SigningKey {
    SigningKey::from_pem(kid, &p256_pem(number)).unwrap()
}
