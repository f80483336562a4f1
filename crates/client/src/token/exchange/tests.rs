use super::*;

#[test]
fn retry_after_is_read_in_both_forms_and_bounded() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
    let check = |value: &str, expect: Option<u64>| {
        assert_eq!(retry_after_of(value, now), expect.map(Duration::from_secs), "{value:?}");
    };
    check("0", Some(0));
    check(" 7 ", Some(7));
    check("Sun, 06 Nov 1994 08:49:47 GMT", Some(10));
    check("Sun, 06 Nov 1994 08:49:27 GMT", Some(0));
    check("99999999999", Some(600));
    check("-1", None);
    check("soon", None);
    check("", None);
}

#[test]
fn answers_become_tokens_or_what_to_do() {
    let token = read_answer(200, r#"{"token":"t.t.t","peer_id":"a","expires_in":300,"role":"agent"}"#, None);
    let token = token.unwrap();
    assert_eq!((token.text.expose(), token.peer.as_str(), token.good_for.as_secs()), ("t.t.t", "a", 300));
    // What is not said, or cannot be, counts as nothing.
    for odd in [r#""expires_in":-5,"#, r#""expires_in":1e300,"#, ""] {
        let token = read_answer(200, &format!(r#"{{{odd}"token":"t","peer_id":"a"}}"#), None).unwrap();
        assert_eq!(token.good_for, Duration::ZERO, "{odd}");
    }

    let refused = read_answer(401, r#"{"detail":"unknown key","error":"x"}"#, None).unwrap_err();
    assert_eq!(refused, TokenError::Refused("unknown key".to_owned()));
    assert_eq!(
        read_answer(403, "", None).unwrap_err(),
        TokenError::Refused("the service answered 403".to_owned())
    );
    let pause = Some(Duration::from_secs(3));
    let later = read_answer(429, r#"{"error":"slow down"}"#, pause).unwrap_err();
    assert_eq!(later, TokenError::Unavailable { retry_after: pause, message: "slow down".to_owned() });
    for (status, body) in [(200, "<html>"), (200, "{}"), (200, r#"{"token":"t","peer_id":""}"#), (502, "bad")]
    {
        let error = read_answer(status, body, None).unwrap_err();
        assert!(matches!(error, TokenError::Unavailable { .. }), "{status} {body}: {error}");
    }
}

#[test]
fn nothing_shows_a_credential_or_an_address() {
    let url = "http://user:hidden@127.0.0.1:1/api/token";
    let exchange = TokenExchange::new(url, Credential::api_key(Secret::new("ak_hidden")));
    assert!(!format!("{exchange:?}").contains("hidden"), "{exchange:?}");
    let error = exchange.ask().unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
    assert!(matches!(error, TokenError::Unavailable { .. }), "{error:?}");
}

#[test]
fn an_address_that_is_none_is_said_so() {
    for url in ["", "127.0.0.1", "ftp://host/api/token", "http://", "ht tp://x"] {
        let exchange = TokenExchange::new(url, Credential::device_token(Secret::new("dt_1")));
        assert_eq!(exchange.ask().unwrap_err(), TokenError::BadUrl, "{url:?}");
    }
}
