use jsonwebtoken::EncodingKey;
use proptest::prelude::*;

use super::*;
use crate::jwk::{PRIVATE_MEMBERS, bits};
use crate::testing::{NOW, ed25519_pem, forge, p256_pem, private, unsigned};
use crate::token::SigningKey;

/// Keys and assertions made by openssl. All say: `{"sub": "agent-00c0ffee0001", "aud": "heliograph",
/// "iat": NOW, "exp": NOW + 60, "jti": "b7c1"}`.
const RSA_KEY: &str = r#"{"kty":"RSA","n":"nP7vEcaXEWzzrz-UDEJGdojfmBPs2qmKv-1NkFB-9q8eKBj41g4BgR1KLwelA6dLOD4DlkP52uD52AtRjyfMcZ4bvxqKdXYmeMwroJG34pKe3S6_0OmpDLLtOi7zEsA1rEhUuRETEnIMcDFL5mzTiu6pq7_u8nr_WsMwxASdwGc6kFe9Pz7BF5xqAOc7DYmHbRI0jusOykakIZ07UvkBwDCrnVTNbf3cA57Y5CBNN_wm-rMJ6KqDXUUcwK15zk_w76ooWqZVwqqttvQ8S8BBLbvKvDNDLhDwEm1I5P2aEV4d5CGcO_PEWuZ7o0fE6ErYFEX5FW4uoO_AtR_ZDcZzkw","e":"AQAB"}"#;
const RSA_JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZ2VudC0wMGMwZmZlZTAwMDEiLCJhdWQiOiJoZWxpb2dyYXBoIiwiaWF0IjoxNzk1MjUyNDQzLCJleHAiOjE3OTUyNTI1MDMsImp0aSI6ImI3YzEifQ.HEHGQ6G7e6r8AjEIv-UgLYHFhURaYG3ef3jAbjNySofwdLQkTVyjmYSQLyrTAlu1qBfO3Rk5VNK0SCit4q9VDlaeVTktASqTuVG6Ha58wQuC2WWGM4e2RHJFxko_lY9y8Hu7Y00Zf6CDSwSP91wlv3k-mL-Vj9RlHSntOOx6f0gYl1JJPg_tb1Om1zrrFnFNuBe56prSbvsem8v8DzLgl023DUq_zEzVORbC1jr7UEaewvI9PIn2oOwtmZOK3cYDrUWWXU--BEwqHqxJKoIn3mKcSSRbftWwq_Y4nt2KHfj7xWzh0WlrggNIqO6BvE4QaX_8r9WuBWREZa3qMs0bVQ";
const EC_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"j34arZfbd_Cl2yRI7XVBZqzK0RnOmiy6QO6SMTZbEsc","y":"fg-FV_v-__t0jqlplSwnn8TFENwMQ5QlJ2qE0VVAFMQ"}"#;
const EC_JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZ2VudC0wMGMwZmZlZTAwMDEiLCJhdWQiOiJoZWxpb2dyYXBoIiwiaWF0IjoxNzk1MjUyNDQzLCJleHAiOjE3OTUyNTI1MDMsImp0aSI6ImI3YzEifQ._yTLI8-tcitJJAlVkLgQMsmHuvSQvi2u4L6vYZlxiE_jLGPwSjvjvSrvfLlFyTlJTZJmnkWIunLobm94kuo1gA";
const ED_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"anFOyA1-mj4b5JdK7OQzP8-euG7dzEpQVJCWBZvCWTw"}"#;
const ED_JWT: &str = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZ2VudC0wMGMwZmZlZTAwMDEiLCJhdWQiOiJoZWxpb2dyYXBoIiwiaWF0IjoxNzk1MjUyNDQzLCJleHAiOjE3OTUyNTI1MDMsImp0aSI6ImI3YzEifQ.jEslTMWLb0X8ndfR-isMHrsjxg5dn0hv0rMIHXVrH1z9UxW9RKhW3e-Lkq-dwqDAf1e4jXJVQYLxcrhtlPyrBw";

const ALL: [(&str, &str); 3] = [(RSA_KEY, RSA_JWT), (EC_KEY, EC_JWT), (ED_KEY, ED_JWT)];

#[test]
fn assertions_of_openssl_are_verified() {
    for (key, jwt) in ALL {
        let claims = verify_assertion(jwt, &parse(key), NOW).unwrap();
        assert_eq!(claims.peer.as_str(), "agent-00c0ffee0001");
        assert_eq!(claims.mesh, MeshName::default_mesh());
        assert_eq!(claims.id, "b7c1");
        assert_eq!((claims.issued_at, claims.expires_at), (NOW, NOW + 60));
        let subject = claimed_subject(jwt).unwrap();
        assert_eq!((subject.peer, subject.mesh), (claims.peer, claims.mesh));
    }
}

#[test]
fn assertion_fits_its_own_key_only() {
    for (index, (_, jwt)) in ALL.into_iter().enumerate() {
        for (other, (key, _)) in ALL.into_iter().enumerate().filter(|(other, _)| *other != index) {
            let outcome = verify_assertion(jwt, &parse(key), NOW);
            assert_eq!(outcome, Err(TokenError::WrongAlgorithm), "{index} {other}");
        }
    }
    assert_eq!(verify_assertion(&device(1, &claims()), &key(2), NOW), Err(TokenError::BadSignature));
}

#[test]
fn assertion_is_over_exactly_when_the_leeway_is() {
    let end = NOW + 60 + TOKEN_LEEWAY_SECONDS;
    assert!(verify_assertion(ED_JWT, &parse(ED_KEY), end - 1).is_ok());
    assert_eq!(verify_assertion(ED_JWT, &parse(ED_KEY), end), Err(TokenError::Expired));
}

#[test]
fn assertion_from_the_future_is_refused() {
    let early = NOW - TOKEN_LEEWAY_SECONDS;
    assert!(verify_assertion(ED_JWT, &parse(ED_KEY), early).is_ok());
    assert_eq!(verify_assertion(ED_JWT, &parse(ED_KEY), early - 1), Err(TokenError::NotYetValid));
    check("nbf", json!(NOW + TOKEN_LEEWAY_SECONDS), Ok(()));
    check("nbf", json!(NOW + TOKEN_LEEWAY_SECONDS + 1), Err(TokenError::NotYetValid));
}

#[test]
fn assertion_may_not_live_long() {
    let longest = NOW + MAX_ASSERTION_SECONDS + TOKEN_LEEWAY_SECONDS;
    check("exp", json!(longest), Ok(()));
    check("exp", json!(longest + 1), Err(TokenError::LivesTooLong));
    check("exp", json!(u64::MAX), Err(TokenError::LivesTooLong));
}

#[test]
fn every_claim_is_required() {
    for name in ["sub", "aud", "exp", "iat", "jti"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(verify_assertion(&device(1, &claims), &key(1), NOW), Err(TokenError::MissingClaim(name)));
    }
}

#[test]
fn claims_must_fit() {
    check("aud", json!("https://heliograph.example"), Err(TokenError::WrongAudience));
    check("aud", json!(["heliograph"]), Ok(()));
    check("sub", json!(""), Err(TokenError::BadName));
    check("mesh", json!("home"), Ok(()));
    check("mesh", json!(""), Err(TokenError::BadName));
    check("jti", json!(""), Err(TokenError::BadName));
    check("jti", json!("x".repeat(129)), Err(TokenError::BadName));
    check("exp", json!("soon"), Err(TokenError::Malformed));
}

#[test]
fn algorithm_none_and_public_key_as_secret_are_refused() {
    let key = key(1);
    let none = unsigned(&json!({"alg": "none"}), &claims()) + ".";
    assert_eq!(verify_assertion(&none, &key, NOW), Err(TokenError::WrongAlgorithm));
    for secret in [key.canonical(), key.to_value()["x"].as_str().unwrap().to_owned()] {
        let secret = EncodingKey::from_secret(secret.as_bytes());
        for alg in ["HS256", "EdDSA"] {
            let jwt = forge(&json!({"alg": alg}), &claims(), &secret, Algorithm::Hs256);
            assert!(verify_assertion(&jwt, &key, NOW).is_err(), "{alg}");
        }
    }
}

#[test]
fn embedded_key_is_not_honoured() {
    let header = json!({"alg": "EdDSA", "jwk": key(2).to_value()});
    let jwt = forge(&header, &claims(), &private(Algorithm::EdDsa, &ed25519_pem(2)), Algorithm::EdDsa);
    assert_eq!(verify_assertion(&jwt, &key(1), NOW), Err(TokenError::BadSignature));
}

#[test]
fn both_names_of_edwards_signatures_are_known() {
    let jwt = forge(
        &json!({"alg": "Ed25519"}),
        &claims(),
        &private(Algorithm::EdDsa, &ed25519_pem(1)),
        Algorithm::EdDsa,
    );
    assert!(verify_assertion(&jwt, &key(1), NOW).is_ok());
}

#[test]
fn fingerprints_are_those_of_the_standards() {
    // RFC 7638 section 3.1, RFC 8037 appendix A.3, and the P-256 key of RFC 7517 appendix A.1.
    let rsa = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;
    assert_eq!(parse(rsa).thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    let edwards = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(parse(edwards).thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let curve = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc"}"#;
    assert_eq!(PublicKeyJwk::parse(curve), Err(JwkError::NotForSignatures));
    assert_eq!(
        parse(&curve.replace("enc", "sig")).thumbprint(),
        "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"
    );
}

#[test]
fn canonical_text_has_the_public_members_only() {
    for (text, _) in ALL {
        let mut decorated: Value = serde_json::from_str(text).unwrap();
        decorated["kid"] = json!("mine");
        decorated["use"] = json!("sig");
        decorated["key_ops"] = json!(["verify"]);
        decorated["ext"] = json!(true);
        let key = parse_value(&decorated).unwrap();
        assert_eq!(key, parse(text));
        assert_eq!(parse(&key.canonical()), key);
        assert_eq!(serde_json::from_str::<Value>(&key.canonical()).unwrap(), key.to_value());
        assert_eq!(key.to_value(), serde_json::from_str::<Value>(text).unwrap());
    }
}

#[test]
fn private_keys_are_refused_unseen() {
    for name in PRIVATE_MEMBERS {
        for (text, _) in ALL {
            let mut value: Value = serde_json::from_str(text).unwrap();
            value[name] = json!("c2VjcmV0IHZhbHVl");
            let error = PublicKeyJwk::parse(&value.to_string()).unwrap_err();
            assert_eq!(error, JwkError::Private(name));
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("only the public half") && !shown.contains("c2VjcmV0"), "{shown}");
        }
    }
    // Even when nothing else is right, and when the value is null.
    assert_eq!(parse_value(&json!({"kty": "oct", "k": null})), Err(JwkError::Private("k")));
}

#[test]
fn other_types_of_keys_are_refused() {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    for value in [
        json!({}),
        json!({"kty": "oct"}),
        json!({"kty": 1, "crv": "P-256", "x": x, "y": x}),
        json!({"kty": "EC", "x": x, "y": x}),
        json!({"kty": "EC", "crv": "P-384", "x": x, "y": x}),
        json!({"kty": "EC", "crv": "secp256k1", "x": x, "y": x}),
        json!({"kty": "OKP", "crv": "X25519", "x": x}),
        json!({"kty": "OKP", "crv": "Ed448", "x": x}),
        json!({"kty": "OKP", "crv": "P-256", "x": x, "y": x}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "alg": "ES256"}),
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": x, "alg": "ECDH-ES"}),
    ] {
        assert_eq!(parse_value(&value), Err(JwkError::Unsupported), "{value}");
    }
    for value in [
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "use": "enc"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "key_ops": ["deriveKey"]}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "key_ops": "verify"}),
    ] {
        assert_eq!(parse_value(&value), Err(JwkError::NotForSignatures), "{value}");
    }
}

#[test]
fn damaged_members_are_refused() {
    let of = |value: Value| parse_value(&value).unwrap_err();
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let ec = |y: Value| json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
    assert_eq!(of(json!({"kty": "EC", "crv": "P-256", "x": x})), JwkError::BadMember("y"));
    assert_eq!(of(ec(json!(5))), JwkError::BadMember("y"));
    assert_eq!(of(ec(json!(format!("{x}=")))), JwkError::BadMember("y"));
    assert_eq!(of(ec(json!("not+base64url"))), JwkError::BadMember("y"));
    assert_eq!(of(ec(json!("AAAA"))), JwkError::WrongLength("y"));
    assert_eq!(of(ec(json!("A".repeat(44)))), JwkError::WrongLength("y"));
    assert_eq!(of(ec(json!("A".repeat(5000)))), JwkError::TooLong);
    assert_eq!(of(json!({"kty": "OKP", "crv": "Ed25519", "x": ""})), JwkError::WrongLength("x"));
    assert_eq!(of(json!([])), JwkError::NotAnObject);
    assert_eq!(PublicKeyJwk::parse("{"), Err(JwkError::NotAnObject));
    assert_eq!(PublicKeyJwk::parse(&" ".repeat(4097)), Err(JwkError::TooLong));
}

#[test]
fn rsa_keys_have_sensible_sizes() {
    let n = |bytes: usize| {
        let mut n = vec![0xff; bytes];
        n[0] = 0x80;
        n
    };
    check_rsa(&n(256), &[1, 0, 1], true);
    check_rsa(&n(1024), &[3], true);
    check_rsa(&n(128), &[1, 0, 1], false);
    check_rsa(&n(255), &[1, 0, 1], false);
    check_rsa(&n(1025), &[1, 0, 1], false);
    check_rsa(&[&[0x7f], n(255).as_slice()].concat(), &[1, 0, 1], false); // 2047 bits
    check_rsa(&[&[0], n(256).as_slice()].concat(), &[1, 0, 1], false); // a leading zero
    check_rsa(&[n(255).as_slice(), &[2]].concat(), &[1, 0, 1], false); // even
    check_rsa(&[], &[1, 0, 1], false);
    for e in [&[] as &[u8], &[0], &[1], &[2], &[0, 1, 0, 1], &[1, 0, 0, 0, 1]] {
        check_rsa(&n(256), e, false);
    }
}

fn check_rsa(n: &[u8], e: &[u8], good: bool) {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let outcome = PublicKeyJwk::parse(&json!({"kty": "RSA", "n": b64(n), "e": b64(e)}).to_string());
    assert_eq!(outcome.is_ok(), good, "{} bits, e {e:?}", bits(n));
    assert!(good || outcome == Err(JwkError::BadRsa));
}

#[test]
fn point_off_the_curve_verifies_nothing() {
    let mut value: Value = serde_json::from_str(EC_KEY).unwrap();
    value["y"] = value["x"].clone();
    let key = parse_value(&value).unwrap();
    assert_eq!(verify_assertion(EC_JWT, &key, NOW), Err(TokenError::BadSignature));
}

#[test]
fn debug_tells_the_fingerprint() {
    let key = parse(ED_KEY);
    assert_eq!(format!("{key:?}"), format!("PublicKeyJwk(EdDSA {})", key.thumbprint()));
}

proptest! {
    #[test]
    fn an_assertion_with_one_character_changed_is_refused(which in 0..3_usize, place: prop::sample::Index, by in 1..64_usize) {
        const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (key, jwt) = ALL[which];
        let mut jwt = jwt.as_bytes().to_vec();
        let place = place.index(jwt.len());
        let value = BASE64URL.iter().position(|c| *c == jwt[place]);
        jwt[place] = BASE64URL[(value.unwrap_or(0) + by) % 64];
        prop_assert!(verify_assertion(std::str::from_utf8(&jwt).unwrap(), &parse(key), NOW).is_err());
    }

    #[test]
    fn any_text_is_a_key_or_refused(text in "\\PC{0,60}", crv in "P-256|Ed25519", x in "[A-Za-z0-9_-]{40,46}") {
        let _ = PublicKeyJwk::parse(&text);
        let _ = parse_value(&json!({"kty": "EC", "crv": crv, "x": x, "y": text}));
        if let Ok(key) = parse_value(&json!({"kty": "OKP", "crv": crv, "x": x})) {
            prop_assert_eq!(parse(&key.canonical()), key);
        }
    }

    #[test]
    fn keys_of_any_device_verify_what_it_signs(number in 1..255_u8, curve: bool) {
        let (algorithm, pem) = if curve {
            (Algorithm::Es256, p256_pem(number))
        } else {
            (Algorithm::EdDsa, ed25519_pem(number))
        };
        let jwk = SigningKey::from_pem("k", &pem).unwrap().jwk().unwrap();
        let key = parse_value(&jwk).unwrap();
        let jwt = forge(&json!({"alg": algorithm.as_str()}), &claims(), &private(algorithm, &pem), algorithm);
        prop_assert!(verify_assertion(&jwt, &key, NOW).is_ok());
    }
}

fn check(name: &str, value: Value, expected: Result<(), TokenError>) {
    let mut claims = claims();
    claims[name] = value;
    assert_eq!(verify_assertion(&device(1, &claims), &key(1), NOW).err(), expected.err(), "{claims}");
}

fn claims() -> Value {
    json!({"sub": "agent-1", "aud": "heliograph", "iat": NOW, "exp": NOW + 60, "jti": "b7c1"})
}

fn device(number: u8, claims: &Value) -> String {
    let key = private(Algorithm::EdDsa, &ed25519_pem(number));
    forge(&json!({"alg": "EdDSA", "typ": "JWT"}), claims, &key, Algorithm::EdDsa)
}

fn key(number: u8) -> PublicKeyJwk {
    parse_value(&SigningKey::from_pem("k", &ed25519_pem(number)).unwrap().jwk().unwrap()).unwrap()
}

fn parse(text: &str) -> PublicKeyJwk {
    PublicKeyJwk::parse(text).unwrap()
}

fn parse_value(value: &Value) -> Result<PublicKeyJwk, JwkError> {
    PublicKeyJwk::parse(&value.to_string())
}

/// serde_json reads a string under this name as JSON of its own, with a fresh bound on depth: a few kilobytes
/// of them overflowed the stack of whoever made them into a `Value`.
#[test]
fn nested_raw_values_do_not_overflow_the_stack() {
    let mut text = "null".to_owned();
    while text.len() < 2_000 {
        text = json!({ "$serde_json::private::RawValue": text }).to_string();
    }
    let whole = format!(r#"{{"kty":"EC","x":{text}}}"#);
    let on_a_small_stack = std::thread::Builder::new().stack_size(128 * 1024);
    let parsed = on_a_small_stack.spawn(move || PublicKeyJwk::parse(&whole)).unwrap().join().unwrap();
    assert!(parsed.is_err());
}
