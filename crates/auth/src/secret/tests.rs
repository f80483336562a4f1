use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::testing::rng;

#[test]
fn secrets_print_as_dots() {
    let secret = Secret::new("ak_dev_001");
    let code = NormalizedCode::generate(CodeFormat::Base32, &mut rng(1));
    let hasher = Hasher::new([7; 32]);
    assert_eq!(format!("{secret} {secret:?} {code:?} {hasher:?}"), "••• ••• NormalizedCode(•••) Hasher(•••)");
    assert_eq!(secret.expose(), "ak_dev_001");
}

#[test]
fn secrets_match_only_themselves() {
    let secret = Secret::new("ak_dev_001");
    assert!(secret.matches("ak_dev_001"));
    for other in ["", "ak_dev_002", "ak_dev_00", "ak_dev_0011"] {
        assert!(!secret.matches(other), "{other}");
    }
}

#[test]
fn hash_is_the_one_that_others_compute() {
    // hmac.new(bytes(range(32)), b"heliograph/api-key\0ak_dev_001", hashlib.sha256) in Python: stored hashes
    // must stay findable from release to release.
    let key: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap());
    let hash = Hasher::new(key).hash(Purpose::ApiKey, "ak_dev_001");
    assert_eq!(
        hash,
        [
            0xa6, 0xa7, 0x29, 0x33, 0x7a, 0x5f, 0x35, 0xf6, 0x32, 0x4c, 0x7c, 0x82, 0xb5, 0xe7, 0x10, 0x55,
            0xb2, 0x49, 0xc1, 0xd2, 0x4e, 0x92, 0xf3, 0xdb, 0x9c, 0x90, 0xa2, 0x3b, 0x1a, 0x06, 0xf1, 0x5c,
        ]
    );
}

#[test]
fn purpose_key_and_secret_each_change_the_hash() {
    let mut hashes = HashSet::new();
    for key in [[1; 32], [2; 32]] {
        for purpose in [Purpose::ApiKey, Purpose::DeviceToken, Purpose::ClaimToken, Purpose::InviteCode] {
            for secret in ["", "a", "b"] {
                assert!(hashes.insert(Hasher::new(key).hash(purpose, secret)));
            }
        }
    }
}

#[test]
fn stored_key_must_have_its_length() {
    let key = Hasher::new_key(&mut rng(1));
    let stored = Hasher::from_stored(&key).unwrap();
    assert_eq!(stored.hash(Purpose::ApiKey, "x"), Hasher::new(key).hash(Purpose::ApiKey, "x"));
    assert!(Hasher::from_stored(&key[1..]).is_none());
    assert!(Hasher::from_stored(&[0; 33]).is_none());
}

#[test]
fn generated_texts_have_their_shape_and_differ() {
    check_shape(|rng| api_key(rng).expose().into(), "ak_", 32);
    check_shape(|rng| device_token(rng).expose().into(), "dt_", 32);
    check_shape(|rng| claim_token(rng).expose().into(), "ct_", 32);
    check_shape(api_key_id, "key_", 12);
    check_shape(invite_id, "inv_", 12);
    check_shape(pairing_id, "", 12);
    check_shape(token_id, "", 32);
    check_shape(|rng| peer_id(rng).to_string(), "agent-", 12);
    check_shape(|rng| gateway_id(rng).to_string(), "gw-", 12);
}

fn check_shape(make: impl Fn(&mut rand::rngs::StdRng) -> String, prefix: &str, digits: usize) {
    let mut rng = rng(1);
    let (first, second) = (make(&mut rng), make(&mut rng));
    assert_ne!(first, second);
    let rest = first.strip_prefix(prefix).unwrap();
    assert_eq!(rest.len(), digits, "{first}");
    assert!(rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{first}");
}

#[test]
fn generators_take_any_generator() {
    let dice: &mut dyn CryptoRng = &mut rng(1);
    assert_eq!(pairing_id(dice).len(), 12);
}

#[test]
fn codes_normalize() {
    for typed in [
        "01ABC-DEFGH",
        "01abc-defgh",
        " o i a b c d e f g h ",
        "0Labc--defgh",
        "01ABCDEFGH",
        "0\t1ABCDEFGH\n",
    ] {
        assert_eq!(normalize_code(typed).unwrap().expose(), "01ABCDEFGH", "{typed:?}");
    }
    for typed in ["523831", "523-831", " 523 831 "] {
        assert_eq!(normalize_code(typed).unwrap().expose(), "523831", "{typed:?}");
    }
}

#[test]
fn what_is_no_code_is_refused() {
    let long = "-".repeat(MAX_TYPED_BYTES) + "523831";
    let bad = [
        "",
        "-",
        "52383",
        "5238311",
        "O23831",
        "01ABCDEFG",
        "01ABCDEFGHJ",
        "U1ABCDEFGH",
        "01ABCDEFG!",
        "٥٢٣",
        "ÀABCDEFGH",
        &long,
    ];
    for typed in bad {
        assert_eq!(normalize_code(typed).err(), Some(CodeError), "{typed:?}");
    }
}

#[test]
fn codes_are_shown_as_people_type_them() {
    let code = NormalizedCode::generate(CodeFormat::Base32, &mut rng(3));
    let shown = code.shown();
    assert_eq!(shown.expose().len(), 11);
    assert_eq!(shown.expose().find('-'), Some(5));
    let digits = NormalizedCode::generate(CodeFormat::Digits, &mut rng(3));
    assert_eq!(digits.shown().expose(), digits.expose());
    assert_eq!(digits.expose().len(), 6);
}

#[test]
fn code_formats_are_named_as_in_the_interface() {
    assert_eq!(
        serde_json::to_string(&[CodeFormat::Base32, CodeFormat::Digits]).unwrap(),
        r#"["base32","digits"]"#
    );
    assert!(serde_json::from_str::<CodeFormat>(r#""words""#).is_err());
}

#[test]
fn every_character_of_a_code_takes_every_value() {
    let mut seen = vec![HashSet::new(); BASE32_LENGTH];
    for seed in 0..1000 {
        let code = NormalizedCode::generate(CodeFormat::Base32, &mut rng(seed));
        code.expose().bytes().enumerate().for_each(|(place, byte)| _ = seen[place].insert(byte));
    }
    assert!(seen.iter().all(|values| values.len() == ALPHABET.len()));
}

proptest! {
    #[test]
    fn a_mangled_code_is_the_same_code(seed: u64, digits: bool, marks in proptest::collection::vec(0..6_u8, 11)) {
        let format = if digits { CodeFormat::Digits } else { CodeFormat::Base32 };
        let code = NormalizedCode::generate(format, &mut rng(seed));
        let mut typed = String::new();
        for (c, mark) in code.shown().expose().chars().zip(marks) {
            typed.push(match (c, mark) {
                ('0', 1) if !digits => 'o',
                ('1', 1) if !digits => 'l',
                ('1', 2) if !digits => 'I',
                (c, 3) => c.to_ascii_lowercase(),
                (c, _) => c,
            });
            typed.push_str(match mark { 4 => "-", 5 => " ", _ => "" });
        }
        let read = normalize_code(&typed).unwrap();
        prop_assert_eq!(read.expose(), code.expose());
    }

    #[test]
    fn whatever_is_typed_normalizes_once_or_not(typed in "\\PC{0,24}") {
        if let Ok(code) = normalize_code(&typed) {
            let again = normalize_code(code.expose()).unwrap();
            prop_assert_eq!(again.expose(), code.expose());
        }
    }
}
