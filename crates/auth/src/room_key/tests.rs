use proptest::prelude::*;

use super::*;
use crate::assertion::PublicKeyJwk;
use crate::testing::rng;
use heliograph_core::limits::MAX_CREDENTIAL_BYTES;

const NONCE: &str = "bm9uY2Ugb2YgdGhlIHRlc3QsIDMyIGJ5dGVzIGxvbmc";
const ROOM: &str = "Wohnzimmer Süd";
const EDWARDS: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// A key, and its answer to the challenge with [`NONCE`] in [`ROOM`]; made by WebCrypto, which a browser has.
struct Sample {
    algorithm: &'static str,
    jwk: &'static str,
    fingerprint: &'static str,
    signature: &'static str,
}

const SAMPLES: [Sample; 6] = [
    Sample {
        algorithm: "ES256",
        jwk: r#"{"key_ops":["verify"],"ext":true,"kty":"EC","x":"8RVgNTHp7IOnkDvgrrKG2rrICzS10cLi5Qi7dfAVv6I","y":"3RXqVMmivtR5Oz4P3L0mr8BDpck13HKOPytQ0XZ3Axs","crv":"P-256"}"#,
        fingerprint: "90050386f540c77be3e671cc7519ac20bb5d926bf625707afa9fe7be34c8345e",
        signature: "Gtd_xgbUbQHGSnsW4YFmvZW4ez8mXQnZbURG2BdREocVU4JpgSMJu5lPey1DIaj9g9bgcYckvoMfssEZwnO7yg",
    },
    Sample {
        algorithm: "ES384",
        jwk: r#"{"key_ops":["verify"],"ext":true,"kty":"EC","x":"oDmorrv12OFn9h973vde8TcOZnDuYy7K9OqMh3JZ428DRSFkdvaLf4Lmqln6MYg4","y":"zcZ1kI0VKZoLDMRDEL8cm77Evw-efIrCREA41D6yij_U-cdJd_osKVEo8I_PCVwZ","crv":"P-384"}"#,
        fingerprint: "0a0fea8686da4c07212a8681a6317b20fa9a50eacd112b40c2ce7a1260e244b0",
        signature: "I5P7OB3cDEMpLNPpBBeTh3R1NYJ6lIAZgbnb-0b810DshUrylzx7qZpHEElfSiFcavDrKHbbQ0uaoV07MtHIOwoR1BmLWNPKF5JZuSOR5NlCJ4naNDy707XO-qQyjOzU",
    },
    Sample {
        algorithm: "ES512",
        jwk: r#"{"key_ops":["verify"],"ext":true,"kty":"EC","x":"AKLW3pZ1BJoCPf7Ft0xKZOvptnrwyjl6pi5liHDn5DanbQDVAHV2dUYyeWTMHF44MhZ0-K7VAGNaU-Vdv89R7Dvy","y":"AeFFBL6IVApa-cGb6fUit684yStu56oOtP6RH9UIdSNdRer8xrgdCU-zmsMZ0yqQqYIq7tpHBfkrBn1w4MrmdgJ_","crv":"P-521"}"#,
        fingerprint: "1aad07555885368a7f068d2699ee77051e8b050c6e9768801ce78e8e24ea6505",
        signature: "Af73VCKZSnwywmRq6dlUnyCnX0DYnHVGBSjRhECo-1UHdOzEofYicRzhOMzaZMZOP4-Bm9A3V2tgW49WI-Z3126CAds4WcFIgA_2iqCoQWl34ABXDLQSI9Nb5WhzPkTZRhXjJ10KV4MLqIssb3NwqNCPPFO4qTpEZaoSiNJ2VuduEQMc",
    },
    Sample {
        algorithm: "EdDSA",
        jwk: r#"{"key_ops":["verify"],"ext":true,"crv":"Ed25519","x":"GXvinai75gxnTx4dhufk4K0YYZ7XzYP2E6FuACtPaH8","kty":"OKP","alg":"Ed25519"}"#,
        fingerprint: "221a593d4fa0df1a32253e05edf83076ba5a70d35e1521de872b6ca0878129ad",
        signature: "clMY6k2x7IJujbxpIC6KeKOlqGEybsLxBa8M5AtE8GRcS33kbthnSXQ91-iKOvdkiDDjDvs6Zkoa5IWqR9WnCw",
    },
    Sample {
        algorithm: "RS256",
        jwk: r#"{"key_ops":["verify"],"ext":true,"kty":"RSA","n":"mysxZtkJx12AAq5ORgRPPToCXBqgwWvtqpt5Mgitc-sBO5XpFkOIAiNmYVftlSNy9kmCDsywJOpL_p4s105hRD2S9fYaa5gBVsSpRb7ehdQAt-6vtrpkKmqxf95oyn3nJMAdQN1Zs37jIUTe6QvXhGEq6B6guyqLZ0ARw06AOZU3VkMOglCce2FnjC4hn3mZTs2Abw9M4SzqJOjPZcXzp1Pm83B0ZSW2tjQWRaWIyR8cZY0uc9DYFIyGTbcogNak3vqxHZ0LkW_IduIwWF303FSfxP4ESZ3UMP9Xh-7kntRlBhcdVga9nXHg6IrbCVXFC8UMzUKv62pASE3T9ePWnw","e":"AQAB","alg":"RS256"}"#,
        fingerprint: "4f9d757154ea6a9a27811186708f299cb19e77fe25880a6df63bdb1e11c99eef",
        signature: "CrvqhIRxcrpDMBw8gndCYgujpgN4dfC26DNhw7012yL8Yjo1zIUMbK7fu6j0L7xvEz1k9guNwro_m0TMXReFj6F6Ge_RoaPD3sINTayEt0XgZj3T0V-QlZncskd9EoxhJEB2RWoJDJSbIibK7dC7W9teoRx5MVczIaULH6Waf60BsP-tpJ_jUh4VW54mqAvNi8xTCEQTDqTniuZqIvW5LCqaDl0sily09cuKyo3YnHVhrbSahw7k0ixx9gwYWozyYVGYffFNkHLb2Fao6g6-iQEuqkrkcQdOP3Xh5nTACnFGvSQlSODKBCQ7d9xDNKckRRdX4mmUxzqKOt8cJsiO4g",
    },
    Sample {
        algorithm: "PS256",
        jwk: r#"{"key_ops":["verify"],"ext":true,"kty":"RSA","n":"oD78-g4Ls8AYYZGl7szfSXZkJfBfRjvlBoj7OCf9YTVa8nrOJebz9d4I4hQgma6OU6iN6V6lRv8SSpUFkh0nQGByhkkO-C9bfJW0pr1jv9oG2di68o9BrXFkiY3GYfFOt_m2cP2tSLiiHvz9Z91xPoWRzvccA7_t2CV16s13kDllI5xzlwY8ST7bdyCiURJ_71CyYMj1yMCTe6KncDQLyf8bwauoAchtA9HKxulx2cxXCToEZmQfR1_BCY9adhnwgk7SRv4R2lKAbSXRcqi-ZyuAsNnWC4__fDNl6sSWPYrIjkasTkAk9v68s4RbjHwwEi8sCknI8bm4Naxg7YVHDw","e":"AQAB","alg":"PS256"}"#,
        fingerprint: "403c07447e840e0260205b0b85d6728648633ee53e5849809f053ed57e23ff03",
        signature: "h5YHXai2IPFBITU1RRfWEZDF1doHfrMZxeNl7zDqJRLaHspBU-5gduTsKSrJ6B2kwrm6jjHhr7OK2PYItOin_Nt7xfHEK1JSAVSpuTmMS9eu4hLWlWfYiJK5q4tZGUeXDuupiIcQ80wS7fyZh65-rrjnzl2yKSubJU2rRtNR_0ItvBEZE9-m88dIhXz5AlSkUweOfB6d07eS7lpgcsBjpw59-ve-d5KtpYvd8gHinLKzBeJCD0Km1qIsZHYN_RqEq1u5mJZ6k9saZ8lvJE1VZykLgoxhD4assux7yspCp0rDeASrEgfKp2-L1cVYSHlxLYrsDdiyi24l6Uvw3r-NbA",
    },
];

#[test]
fn fingerprints_are_those_of_the_protocol() {
    // The keys of RFC 8037 A.2, RFC 7517 A.1 and RFC 7638 3.1.
    check_fingerprint(EDWARDS, "20aab9665358bc73da7fc6ab0c064cc7487d8cc311c4596851adcce62db1f1e1");
    check_fingerprint(
        r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#,
        "a352193f3ae0e84514da6fcd22635e7363855ad6e684dc0bc33b22b2ae736401",
    );
    check_fingerprint(
        r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#,
        "cf11c70a7e8d51ea8dc5838a58657c93252480f3aec2920817cfc58f469a208a",
    );
    for sample in SAMPLES {
        check_fingerprint(sample.jwk, sample.fingerprint);
    }
}

#[test]
fn whatever_else_a_key_says_does_not_change_its_name() {
    let decorated = EDWARDS.replace(
        r#""crv""#,
        r#""alg":"x","use":"enc","key_ops":[],"ext":false,"kid":{"a":1},"x5c":null, "crv""#,
    );
    let (decorated, plain) = (key(&decorated), key(EDWARDS));
    assert_eq!((decorated.fingerprint(), decorated.thumbprint()), (plain.fingerprint(), plain.thumbprint()));
}

#[test]
fn thumbprints_are_those_of_enrolled_devices() {
    for sample in SAMPLES.iter().filter(|sample| ["ES256", "EdDSA", "RS256"].contains(&sample.algorithm)) {
        let device = PublicKeyJwk::parse(sample.jwk).unwrap();
        assert_eq!(key(sample.jwk).thumbprint(), device.thumbprint(), "{}", sample.algorithm);
    }
}

#[test]
fn others_are_shown_the_key_as_it_came() {
    let text = EDWARDS.replace(':', " : ");
    let padded = format!(" {text}\n");
    assert_eq!(key(&padded).profile(false), format!(r#"{{"publicKey":{text}}}"#));
    assert_eq!(key(&padded).profile(true), format!(r#"{{"publicKey":{text},"proven":true}}"#));
}

#[test]
fn private_keys_are_refused_whatever_else_is_wrong() {
    for name in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        for text in [
            EDWARDS.replace('}', &format!(r#","{name}":"PLANTED"}}"#)),
            format!(r#"{{"{name}":null}}"#),
            format!(r#"{{"\u{:04x}{}":["PLANTED"],"kty":"oct"}}"#, name.as_bytes()[0], &name[1..]),
        ] {
            let error = RoomKey::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error, JwkError::Private(name), "{text}");
            assert!(!error.to_string().contains("PLANTED"));
        }
    }
}

#[test]
fn keys_that_cannot_sign_are_refused() {
    for text in [
        r#"{"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        r#"{"kty":"OKP","crv":"Ed448","x":"AA"}"#,
        r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#,
        r#"{"kty":"EC","x":"AA","y":"AA"}"#,
        r#"{"kty":"RSA","crv":"P-256","n":"AA","e":"AQAB"}"#,
        r#"{"kty":"oct"}"#,
        r#"{"kty":["EC"],"crv":"P-256"}"#,
        "{}",
    ] {
        refused(text, &JwkError::NotForRooms);
    }
    for text in ["", "null", "[]", "\"EC\"", "{", r#"{"kty":"EC",}"#] {
        refused(text, &JwkError::NotAnObject);
    }
    refused(&format!(r#"{{"kid":"{}"}}"#, "x".repeat(MAX_CREDENTIAL_BYTES)), &JwkError::TooLong);
}

#[test]
fn points_must_be_on_their_curve() {
    for sample in SAMPLES.iter().filter(|sample| sample.jwk.contains(r#""EC""#)) {
        let members: Value = serde_json::from_str(sample.jwk).unwrap();
        let (x, y) = (members["x"].as_str().unwrap(), members["y"].as_str().unwrap());
        refused(&sample.jwk.replace(y, x), &JwkError::NotOnCurve);
        refused(&sample.jwk.replace(x, &"A".repeat(x.len())), &JwkError::NotOnCurve);
        refused(&sample.jwk.replace(y, &"A".repeat(y.len() + 4)), &JwkError::WrongLength("y"));
        refused(&sample.jwk.replace(x, ""), &JwkError::WrongLength("x"));
        refused(&sample.jwk.replace(x, "a b"), &JwkError::BadMember("x"));
        refused(&sample.jwk.replace(r#""y""#, r#""z""#), &JwkError::BadMember("y"));
    }
    // y = 2 has no x; y = 1 and y = 0 are points of order 1 and 4, with which anybody can sign.
    for y in [2, 1, 0] {
        let x = URL_SAFE_NO_PAD.encode([&[y], [0; 31].as_slice()].concat());
        refused(&edwards(&x), &JwkError::NotOnCurve);
    }
    refused(&edwards("AA"), &JwkError::WrongLength("x"));
    refused(&edwards("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURp"), &JwkError::BadMember("x")); // same bytes
    refused(&edwards("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo="), &JwkError::BadMember("x"));
}

#[test]
fn rsa_keys_have_sane_sizes() {
    let odd = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
    let even = URL_SAFE_NO_PAD.encode([vec![0xff; 255], vec![0xfe]].concat());
    key(&rsa(&odd(256), "AQAB"));
    key(&rsa(&odd(1024), "Aw"));
    for (n, e) in [
        (odd(255), "AQAB"),
        (odd(1025), "AQAB"),
        (even, "AQAB"),
        (odd(256), "AQ"),
        (odd(256), "AgAA"),
        (odd(256), "AQAAAAAB"),
        (odd(256), "AAEAAQ"),
    ] {
        refused(&rsa(&n, e), &JwkError::BadRsa);
    }
}

#[test]
fn holders_of_keys_can_prove_it() {
    for sample in &SAMPLES {
        check_proof(sample, ROOM, NONCE, sample.algorithm, sample.signature, true);
    }
    let edwards = &SAMPLES[3];
    check_proof(edwards, ROOM, NONCE, "Ed25519", edwards.signature, true); // its newer name (RFC 9864)
}

#[test]
fn the_proof_of_the_protocol_page_is_one() {
    let page = include_str!("../../../../docs/protocol/rendezvous.md");
    let member = |name: &str| {
        let (_, rest) = page.split_once(&format!(r#""{name}":""#)).unwrap();
        rest.split('"').next().unwrap()
    };
    assert!(key(EDWARDS).verify(member("alg"), member("signature"), member("nonce"), "lobby"));
}

#[test]
fn a_proof_is_good_for_one_key_room_nonce_and_algorithm() {
    for sample in &SAMPLES {
        check_proof(sample, "elsewhere", NONCE, sample.algorithm, sample.signature, false);
        check_proof(sample, ROOM, &nonce(&mut rng(1)), sample.algorithm, sample.signature, false);
        check_proof(sample, ROOM, NONCE, "none", sample.signature, false);
        for other in SAMPLES.iter().filter(|other| other.jwk != sample.jwk) {
            check_proof(sample, ROOM, NONCE, other.algorithm, other.signature, false);
            check_proof(sample, ROOM, NONCE, sample.algorithm, other.signature, false);
        }
        for bad in ["", "=", "a b", "+/", &format!("{}=", sample.signature), &"A".repeat(10_000)] {
            check_proof(sample, ROOM, NONCE, sample.algorithm, bad, false);
        }
    }
}

#[test]
fn no_two_nonces_are_the_same() {
    let mut rng = rng(7);
    let (first, second) = (nonce(&mut rng), nonce(&mut rng));
    assert_ne!(first, second);
    assert_eq!(URL_SAFE_NO_PAD.decode(first).unwrap().len(), NONCE_BYTES);
}

proptest! {
    #[test]
    fn reading_a_key_never_panics(text in r#"\{("(kty|crv|x|y|n|e|d)":("[A-Za-z0-9_=-]{0,90}"|null|\[\]|"EC"|"P-(256|384|521)"|"OKP"|"Ed25519"|"RSA"),?){0,6}\}|.{0,40}"#) {
        if let Ok(key) = RoomKey::parse(text.as_bytes()) {
            prop_assert_eq!(RoomKey::parse(object(&key.essential).as_bytes()).unwrap(), key);
        }
    }

    #[test]
    fn any_bytes_of_the_right_length_are_a_point_or_refused(
        x in prop::collection::vec(any::<u8>(), 32), y in prop::collection::vec(any::<u8>(), 32),
    ) {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let curve = format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, b64(&x), b64(&y));
        prop_assert_eq!(RoomKey::parse(curve.as_bytes()), Err(JwkError::NotOnCurve));
        let outcome = RoomKey::parse(edwards(&b64(&x)).as_bytes());
        prop_assert!(matches!(outcome, Ok(_) | Err(JwkError::NotOnCurve)));
    }
}

fn key(jwk: &str) -> RoomKey {
    RoomKey::parse(jwk.as_bytes()).unwrap()
}

fn edwards(x: &str) -> String {
    format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#)
}

fn rsa(n: &str, e: &str) -> String {
    format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"}}"#)
}

fn check_fingerprint(jwk: &str, expect: &str) {
    assert_eq!(key(jwk).fingerprint(), expect, "{jwk}");
}

fn refused(jwk: &str, why: &JwkError) {
    assert_eq!(RoomKey::parse(jwk.as_bytes()).as_ref(), Err(why), "{jwk}");
}

fn check_proof(sample: &Sample, room: &str, nonce: &str, algorithm: &str, signature: &str, expect: bool) {
    let outcome = key(sample.jwk).verify(algorithm, signature, nonce, room);
    assert_eq!(outcome, expect, "{algorithm} with the key of {}", sample.algorithm);
}
